//! The demo page at `/` and its files, the page of a node at `/` of its internal listener, and the JavaScript client at `/fanfare.js`, compiled into the binary: nothing to
//! install, nothing fetched from elsewhere.
//!
//! The files are served as they are; a browser asks again with `If-None-Match`, so a new binary's page is seen at once.

/// What the demo page may do, for the `Content-Security-Policy` header of every [`Asset`]: its own files and its own
/// server, no inline script or style, no frame around it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The value of `Content-Type`, with its charset where it has one.
    pub content_type: &'static str,
    /// The whole file; at most 64 KiB.
    pub body: &'static [u8],
    /// A strong entity tag in its quotes, as `ETag` and `If-None-Match` carry it; it changes whenever the body does.
    pub etag: &'static str,
}

/// The longest file this module accepts, in bytes: the page is to be light, and each file fits one write.
const ASSET_BYTES_MAX: usize = 64 * 1024;

/// The quotes and 16 hexadecimal digits.
pub const ETAG_BYTES: usize = 18;

/// The tag of a file. Those of this page are computed while compiling, so a request only compares and copies.
pub const fn etag(body: &[u8]) -> [u8; ETAG_BYTES] {
    // FNV-1a, 64 bits: tells versions of one file apart, which is all that an entity tag does.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < body.len() {
        hash = (hash ^ body[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    let digits = b"0123456789abcdef";
    let mut tag = [b'"'; ETAG_BYTES];
    let mut place = 0;
    while place < 16 {
        tag[1 + place] = digits[((hash >> (60 - 4 * place)) & 0xf) as usize];
        place += 1;
    }
    tag
}

macro_rules! asset {
    ($file:literal, $content_type:expr) => {{
        const BODY: &[u8] = include_bytes!($file);
        const TAG: [u8; ETAG_BYTES] = etag(BODY);
        const ASSET: Asset = Asset {
            content_type: $content_type,
            body: BODY,
            etag: match std::str::from_utf8(&TAG) {
                Ok(text) => text,
                Err(_) => panic!("quotes and hexadecimal digits are UTF-8"),
            },
        };
        const { assert!(BODY.len() <= ASSET_BYTES_MAX) };
        ASSET
    }};
}

/// The file for a request's path (without its query), or `None` where the page has none.
///
/// The path is compared as it is: `/index.html` is the page too, `/./demo.js` is nothing.
pub fn asset(path: &str) -> Option<Asset> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let asset = match path {
        "/" | "/index.html" => asset!("index.html", "text/html; charset=utf-8"),
        "/demo.css" => asset!("demo.css", "text/css; charset=utf-8"),
        "/talk.css" => asset!("talk.css", "text/css; charset=utf-8"),
        "/api.js" => asset!("api.js", SCRIPT),
        "/chance.js" => asset!("chance.js", SCRIPT),
        "/chat.js" => asset!("chat.js", SCRIPT),
        "/clock.js" => asset!("clock.js", SCRIPT),
        "/comments.js" => asset!("comments.js", SCRIPT),
        "/context.js" => asset!("context.js", SCRIPT),
        "/crowd.js" => asset!("crowd.js", SCRIPT),
        "/demo.js" => asset!("demo.js", SCRIPT),
        "/dots.js" => asset!("dots.js", SCRIPT),
        // Not of the page, but for everybody's own: the client of the stream, which is the package for npm.
        "/fanfare.js" => asset!("../../packages/js/fanfare.js", SCRIPT),
        "/fanfare/blocks.js" => asset!("../../packages/js/fanfare/blocks.js", SCRIPT),
        "/fanfare/latency.js" => asset!("../../packages/js/fanfare/latency.js", SCRIPT),
        "/fanfare/past.js" => asset!("../../packages/js/fanfare/past.js", SCRIPT),
        "/fanfare/poll.js" => asset!("../../packages/js/fanfare/poll.js", SCRIPT),
        "/fanfare/seen.js" => asset!("../../packages/js/fanfare/seen.js", SCRIPT),
        "/fanfare/server.js" => asset!("../../packages/js/fanfare/server.js", SCRIPT),
        "/fanfare/stream.js" => asset!("../../packages/js/fanfare/stream.js", SCRIPT),
        "/fanfare/subscription.js" => asset!("../../packages/js/fanfare/subscription.js", SCRIPT),
        "/fanfare/tabs.js" => asset!("../../packages/js/fanfare/tabs.js", SCRIPT),
        "/fanfare/topics.js" => asset!("../../packages/js/fanfare/topics.js", SCRIPT),
        "/hearts.js" => asset!("hearts.js", SCRIPT),
        "/likes.js" => asset!("likes.js", SCRIPT),
        "/moderation.js" => asset!("moderation.js", SCRIPT),
        "/posts.js" => asset!("posts.js", SCRIPT),
        "/reactions.js" => asset!("reactions.js", SCRIPT),
        "/stage.js" => asset!("stage.js", SCRIPT),
        "/talk.js" => asset!("talk.js", SCRIPT),
        "/favicon.svg" => asset!("favicon.svg", "image/svg+xml"),
        _ => return None,
    };
    Some(asset)
}

/// The same for the page of those who look after a node, at `/` of its internal listener.
pub fn operators(path: &str) -> Option<Asset> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let asset = match path {
        "/" | "/index.html" => asset!("operators/index.html", "text/html; charset=utf-8"),
        "/page.css" => asset!("operators/page.css", "text/css; charset=utf-8"),
        "/page.js" => asset!("operators/page.js", SCRIPT),
        "/feed.js" => asset!("operators/feed.js", SCRIPT),
        "/parts.js" => asset!("operators/parts.js", SCRIPT),
        "/charts.js" => asset!("operators/charts.js", SCRIPT),
        "/latency.js" => asset!("operators/latency.js", SCRIPT),
        "/lists.js" => asset!("operators/lists.js", SCRIPT),
        "/words.js" => asset!("operators/words.js", SCRIPT),
        // The client's way of reading a stream.
        "/fanfare/blocks.js" => asset!("../../packages/js/fanfare/blocks.js", SCRIPT),
        "/favicon.svg" => asset!("favicon.svg", "image/svg+xml"),
        _ => return None,
    };
    Some(asset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PATHS: [&str; 31] = [
        "/",
        "/demo.css",
        "/talk.css",
        "/api.js",
        "/chance.js",
        "/chat.js",
        "/clock.js",
        "/comments.js",
        "/context.js",
        "/crowd.js",
        "/demo.js",
        "/dots.js",
        "/fanfare.js",
        "/fanfare/blocks.js",
        "/fanfare/latency.js",
        "/fanfare/past.js",
        "/fanfare/poll.js",
        "/fanfare/seen.js",
        "/fanfare/server.js",
        "/fanfare/stream.js",
        "/fanfare/subscription.js",
        "/fanfare/tabs.js",
        "/fanfare/topics.js",
        "/hearts.js",
        "/likes.js",
        "/moderation.js",
        "/posts.js",
        "/reactions.js",
        "/stage.js",
        "/talk.js",
        "/favicon.svg",
    ];

    /// Those of the page on the internal listener.
    const OPERATORS: [&str; 10] = [
        "/",
        "/page.css",
        "/page.js",
        "/charts.js",
        "/feed.js",
        "/latency.js",
        "/lists.js",
        "/parts.js",
        "/words.js",
        "/fanfare/blocks.js",
    ];

    type Page = (fn(&str) -> Option<Asset>, &'static [&'static str]);
    const PAGES: [Page; 2] = [(asset, &PATHS), (operators, &OPERATORS)];

    fn text((find, _): Page, path: &str) -> &'static str {
        std::str::from_utf8(find(path).expect(path).body).expect("the files are UTF-8")
    }

    /// The quoted values that follow `before` in `text`.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_file_that_a_page_names_is_served() {
        for (page, few) in PAGES
            .into_iter()
            .zip([&["/demo.js", "/stage.js", "/fanfare/seen.js"], &["/page.js", "/parts.js", "/fanfare/blocks.js"]])
        {
            let shown = text(page, "/");
            let mut named: BTreeSet<String> = BTreeSet::new();
            for value in quoted_after(shown, "href=\"").into_iter().chain(quoted_after(shown, "src=\"")) {
                if !value.starts_with('#') {
                    named.insert(value.to_owned());
                }
            }
            for module in page.1.iter().filter(|path| path.ends_with(".js")) {
                let folder = &module[..=module.rfind('/').expect("a path has a slash")];
                for value in quoted_after(text(page, module), "from \"./") {
                    named.insert(format!("{folder}{value}"));
                }
            }
            assert!(few.iter().all(|path| named.contains(*path)), "found only {named:?}");
            for path in named {
                assert!(page.0(&path).is_some(), "{path} is named by the page and not served");
                let is_listed = path == "/favicon.svg" || page.1.contains(&&*path);
                assert!(is_listed, "{path} is of the page and not looked at here");
            }
        }
    }

    #[test]
    fn nothing_in_a_page_needs_more_than_its_policy_allows() {
        for (page, path) in PAGES.into_iter().flat_map(|page| page.1.iter().map(move |path| (page, path))) {
            let file = text(page, path);
            for foreign in ["https://", "http://", "style=\"", "<style", "onclick=", "onload=", "javascript:", "eval("]
            {
                let allowed = file.matches("http://www.w3.org/2000/svg").count();
                let found = file.matches(foreign).count();
                let excused = if foreign == "http://" { allowed } else { 0 };
                assert_eq!(found, excused, "{path} contains {foreign}");
            }
        }
        for page in PAGES {
            let shown = text(page, "/");
            let modules = quoted_after(shown, "<script type=\"module\" src=\"").len();
            assert_eq!(shown.matches("<script").count(), modules);
        }
    }

    #[test]
    fn tags_are_quoted_and_differ_between_files() {
        let all = PAGES.iter().flat_map(|page| page.1.iter().map(|path| page.0(path).expect(path).etag));
        let tags: BTreeSet<&str> = all.collect();
        // The client of the stream is of both.
        assert_eq!(tags.len(), PATHS.len() + OPERATORS.len() - 1);
        for tag in tags {
            let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quotes");
            assert!(digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tag}");
        }
        // FNV-1a's published value for "a".
        assert_eq!(&etag(b"a"), b"\"af63dc4c8601ec8c\"");
    }

    #[test]
    fn other_paths_are_not_the_page() {
        assert_eq!((asset("/index.html"), operators("/index.html")), (asset("/"), operators("/")));
        for path in ["", "//", "/demo.js/", "/./demo.js", "/mod.rs", "/v1/time", "/DEMO.CSS"] {
            assert_eq!((asset(path), operators(path)), (None, None), "{path}");
        }
    }
}
