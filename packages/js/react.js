// A topic in a component of React: `useTopic(connection, "live:42", (event) => …)`.
import { useEffect, useRef } from "react";

/** @type {typeof import("./react.d.ts").useTopic} */
export function useTopic(connection, topic, onEvent, options) {
  // The newest handler sees the newest state, and another one is no reason to subscribe anew.
  const handler = useRef(onEvent), given = useRef(options);
  useEffect(() => {
    handler.current = onEvent;
    given.current = options;
  });
  useEffect(() => {
    const subscription = connection.subscribe(topic, given.current);
    subscription.on("event", (event) => handler.current(event));
    return () => subscription.close();
  }, [connection, topic]);
}
