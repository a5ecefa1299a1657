import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Stream;

/**
 * Follows a stream with Java's own HttpClient, which knows nothing of events: its lines are put together here. Prints what it
 * hears as JSON, a line each, and ends with its standard input.
 *
 * java Follower.java WHO 'http://127.0.0.1:8080/v1/events?topic=live:42' [TOKEN_FILE]
 */
class Follower {
    static String who, last = "", name = "", data = null;

    public static void main(String[] arguments) throws Exception {
        who = arguments[0];
        String tokenFile = arguments.length > 2 ? arguments[2] : null;
        URI uri = URI.create(arguments[1] + (tokenFile == null ? "&member=" + who : ""));
        Thread input = new Thread(() -> {
            try { while (System.in.read() >= 0) { } } catch (Exception gone) { }
            System.exit(0);
        });
        input.setDaemon(true);
        input.start();
        // Without this it asks for HTTP/2 by an Upgrade first, which is not refused, and not needed.
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        while (true) {
            try {
                HttpRequest.Builder request = HttpRequest.newBuilder(uri).header("Accept", "text/event-stream");
                if (!last.isEmpty()) request.header("Last-Event-ID", last);
                if (tokenFile != null) request.header("Authorization", "Bearer " + Files.readString(Path.of(tokenFile)));
                var response = client.send(request.build(), BodyHandlers.ofLines());
                name = "";
                data = null;
                try (Stream<String> lines = response.body()) {
                    if (response.statusCode() == 200) lines.forEach(Follower::line);
                }
            } catch (java.io.IOException | java.io.UncheckedIOException broken) {
                // The stream broke, or could not be had.
            }
            print("\"own\":true");
            Thread.sleep(1_000 + ThreadLocalRandom.current().nextInt(1_000));
        }
    }

    static void line(String line) {
        int colon = line.indexOf(':');
        String field = colon < 0 ? line : line.substring(0, colon);
        String value = colon < 0 ? "" : line.substring(colon + 1).replaceFirst("^ ", "");
        if (line.isEmpty()) {
            if (data != null) {
                print("\"name\":" + quoted(name.isEmpty() ? "message" : name) + ",\"id\":" + quoted(last) + ",\"data\":" + quoted(data));
            }
            name = "";
            data = null;
        } else if (field.equals("data")) {
            data = data == null ? value : data + "\n" + value;
        } else if (field.equals("event")) {
            name = value;
        } else if (field.equals("id")) {
            last = value;
        }
    }

    static void print(String fields) {
        System.out.println("{\"who\":" + quoted(who) + "," + fields + "}");
        System.out.flush();
    }

    static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }
}
