/** One thing that happened on a topic. */
export interface Event {
  id: string;
  topic: string;
  type: string;
  key?: string;
  /** When the first Fanfare node took it, Unix ms by the server's clock. */
  at: number;
  /** How many events it stands for; of class `sum` only. */
  count?: number;
  /** How many of each key, where not all are of `key`; what has no key is the rest of `count`. */
  counts?: Record<string, number>;
  /** Some of whom it speaks, where it stands for several. */
  members?: string[];
  /** So many of its topic and type were left out before it. */
  skipped?: number;
  /** It comes only since all of its type was asked for. */
  shown?: false;
  data?: any;
}

/** Events of class `every` of this topic may be missing, behind this place; null if that is not known. */
export interface Gap {
  topic: string;
  after: string | null;
}

export type State = "connecting" | "open" | "reconnecting" | "closed";

export interface StateChange {
  state: State;
  /** In how many ms the next try is; only where one waits. */
  retryMs?: number;
  /** What the server answered, if it did, and why. With `closed`: it refused, and is not asked again. */
  status?: number;
  detail?: string;
}

/** `"earliest"`: all that history has; a number below 0: so many of the newest; a time, also in Unix ms: what came since. */
export type From = "earliest" | number | Date;

export interface SubscribeOptions {
  /** Event types that are wanted; default all. */
  types?: Iterable<string>;
  /** Where to begin in the past, with events of class `every`; default now. */
  from?: From;
}

export interface SubscriptionHandlers {
  event: Event;
  gap: Gap;
  state: StateChange;
}

/** What a page, or a part of one, hears of a topic. */
export interface Subscription {
  /** As the server writes it. */
  readonly topic: string;
  readonly state: State;
  /** Calls `handler` until the function that is given is called. */
  on<Name extends keyof SubscriptionHandlers>(name: Name, handler: (detail: SubscriptionHandlers[Name]) => void): () => void;
  /** Nothing more of it reaches a handler. The last one of a topic takes the topic off the stream. */
  close(): void;
}

export interface Options {
  /** Or a function that gives one: asked at first, before the token ends, and when the server no longer takes it. */
  token?: string | (() => string | Promise<string>);
  /** Who watches, where the server has `--auth none`. */
  member?: string;
  /** Types with a pace of which every event is wanted, for who may moderate the topics. */
  all?: Iterable<string>;
  /** Send cookies to another origin too; default false. */
  withCredentials?: boolean;
  /**
   * Have one stream for all tabs of this page's origin that ask the same server as the same member with the same rights;
   * default true. Where the browser has no Web Locks (only `https:` and `localhost` have) each tab has its own.
   */
  share?: boolean;
  /** The share of events, 0 to 1, whose time of receipt is reported to the server; default 0.01. */
  sample?: number;
}

export interface ConnectionHandlers extends SubscriptionHandlers {
  /** The stream is open. Where polls take its place, nothing is told. */
  connected: { connection: string; node: string; heartbeat_ms: number; pending: string[] };
  /** The token ends soon; it is renewed if there is a function to ask. */
  token: { expires_at: number };
  /** The server ends the stream, which comes back. */
  bye: { reason: "drain" | "backlog" | "token" | "busy"; retry_ms: number };
}

/** One stream for all its subscriptions, or polls in its place. It comes back by itself until it is closed or refused. */
export interface Connection {
  readonly state: State;
  /** From publishing to receipt of the newest event, in ms by the server's clock; null before that is known. */
  readonly latency: number | null;
  /** Follows a topic, or all that begin so (`chat:crew.*`, without `from`); up to 100 on one connection. */
  subscribe(topic: string, options?: SubscribeOptions): Subscription;
  /** As of a subscription, for all of them: each event once. */
  on<Name extends keyof ConnectionHandlers>(name: Name, handler: (detail: ConnectionHandlers[Name]) => void): () => void;
  /** Every event of these types is wanted from now on, also what their pace leaves out; none is what all are shown. */
  all(...types: string[]): void;
  /** Gives a heart, as often as one likes: those of a quarter of a second are one request. What a server refuses is lost. */
  tap(video: string, reaction?: string): void;
  /** Connects anew at once: after a sign-in, or to try again what was refused. Does nothing once closed by `close`. */
  reconnect(): void;
  close(): void;
}

/** Opens a connection to `url`, where Fanfare is; in a page the default is the page's own origin. */
export function connect(url?: string, options?: Options): Connection;
