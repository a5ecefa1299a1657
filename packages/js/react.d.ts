import type { Connection, Event, SubscribeOptions } from "./types.js";

/**
 * Calls `onEvent` with each event of a topic as long as the component is there. Components that follow the same topic share it, and all
 * of a connection's share one stream. Other `options` count once the topic changes.
 */
export function useTopic(
  connection: Connection,
  topic: string,
  onEvent: (event: Event) => void,
  options?: SubscribeOptions,
): void;
