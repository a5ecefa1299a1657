# Fanfare behind Varnish 6.0 or later (Debian 12 has 7.1): streams, and nothing is cached.
#
# Copy it to /etc/varnish/default.vcl. Varnish speaks no TLS: what does so stands in front of it (hitch, HAProxy, nginx), and
# sets X-Forwarded-Proto. Fanfare listens on 127.0.0.1:8080 and is told --trusted-proxy 127.0.0.1.
#
# A stream holds a thread for as long as it lasts: varnishd -p thread_pool_max=10000 for 20,000 of them.
# Without: the 10,001st viewer waits until another one leaves.

vcl 4.1;

backend fanfare {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 5s;
    # Why: Fanfare sends a comment line every 25 s at least, so silence for longer is a dead server.
    # Without: with less than 25 s, quiet streams are cut.
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

sub vcl_recv {
    # Why: a pipe holds no copy of what passes, and tells Fanfare that a viewer has left. Without: as below, for HTTP/2 (with
    # -p feature=+http2), which knows no pipe: leaving shows when the third comment line cannot be sent, up to 75 s later.
    if (req.url ~ "^/v1/events(\?|$)" && req.method == "GET" && req.proto !~ "HTTP/2") {
        return (pipe);
    }
    # Fanfare's answers forbid to keep them, but for the demo page's files.
    return (pass);
}

sub vcl_pipe {
    # Why: a pipe is for one request. Without: the next one on this connection goes past all of the above.
    set bereq.http.Connection = "close";
}
