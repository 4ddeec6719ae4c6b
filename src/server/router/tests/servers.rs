//! How families of servers read the path of a request line, each from its documentation. They share nothing with
//! the router.

/// The segments that an application's routes are compared with; `None`: the server refuses the request itself.
pub(super) type Reads = fn(&str) -> Option<Vec<Vec<u8>>>;

pub(super) const ALL: &[(&str, Reads)] = &[
    ("Node, req.url as it is", node_raw),
    ("Node, new URL(req.url, base).pathname", node_url),
    ("Node, new URL(decodeURIComponent(req.url), base).pathname", node_decoded_url),
    ("Express", express),
    ("ASGI: uvicorn, Daphne", asgi),
    ("ASGI, Starlette's path expressions", starlette),
    ("WSGI: gunicorn, and a framework that merges slashes", wsgi),
    ("WSGI behind one that decoded already", wsgi_twice),
    ("nginx", nginx),
    ("nginx, then ASGI", nginx_then_asgi),
    ("RFC 3986 normalisation by a proxy, then ASGI", normalised_then_asgi),
    ("Go, net/http", go),
    ("Tomcat with encoded slashes and backslashes allowed", tomcat),
    ("Spring, parameters removed after decoding", spring),
    ("Kestrel, ASP.NET Core", kestrel),
    ("IIS", iis),
    ("C strings behind one decoding", c_string),
    ("A CGI that splits its decoded path at ?", cgi),
];

/// Whether the first segments are these.
pub(super) fn is_below(segments: &[Vec<u8>], names: &[&str]) -> bool {
    segments.len() >= names.len()
        && segments.iter().zip(names).all(|(segment, name)| segment == name.as_bytes())
}

/// `urllib.parse.unquote_to_bytes`, `decodeURIComponent` and their like: once, from left to right.
fn unquote(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

/// Empty segments go, as `//` is `/`.
fn merged(segments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    segments.into_iter().filter(|segment| !segment.is_empty()).collect()
}

/// RFC 3986 §5.2.4: an empty segment is one.
fn without_dots(segments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for segment in segments {
        match segment.as_slice() {
            b"." => {}
            b".." => drop(out.pop()),
            _ => out.push(segment),
        }
    }
    out
}

fn lower(segments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    segments.into_iter().map(|segment| segment.to_ascii_lowercase()).collect()
}

fn until(text: &[u8], ends: &[u8]) -> Vec<u8> {
    text.iter().copied().take_while(|byte| !ends.contains(byte)).collect()
}

/// `req.url.split('?')[0]`, compared as text.
fn node_raw(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(split(path.as_bytes()))
}

/// WHATWG URL, special scheme: tabs and line breaks are removed, `\` is `/`, two slashes begin a host, dot
/// segments go also where their dots are escaped, and nothing else is decoded.
fn whatwg(path: &[u8]) -> Vec<Vec<u8>> {
    let stripped: Vec<u8> = path.iter().copied().filter(|byte| !b"\t\n\r".contains(byte)).collect();
    let stripped = until(&stripped, b"?#");
    let text: Vec<u8> = stripped.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let mut path = &text[..];
    if path.starts_with(b"//") {
        let host = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        let rest = &path[host..];
        path = rest.iter().position(|byte| *byte == b'/').map_or(&b"/"[..], |end| &rest[end..]);
    }
    let mut out: Vec<Vec<u8>> = Vec::new();
    for segment in split(path) {
        match segment.to_ascii_lowercase().as_slice() {
            b"." | b"%2e" => {}
            b".." | b".%2e" | b"%2e." | b"%2e%2e" => drop(out.pop()),
            _ => out.push(segment),
        }
    }
    out
}

fn node_url(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(whatwg(path.as_bytes()))
}

fn node_decoded_url(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(whatwg(&unquote(path.as_bytes())))
}

/// `path-to-regexp` on the raw path, case insensitive, parameters decoded afterwards.
fn express(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(lower(split(path.as_bytes()).iter().map(|segment| unquote(segment)).collect()))
}

/// `scope["path"]` is the whole path, unquoted.
fn asgi(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(split(&unquote(path.as_bytes())))
}

/// `$` in Python also matches before a line break at the end.
fn starlette(path: &str) -> Option<Vec<Vec<u8>>> {
    let path = unquote(path.as_bytes());
    Some(split(path.strip_suffix(b"\n").unwrap_or(&path)))
}

/// `PATH_INFO` is unquoted; Werkzeug merges slashes.
fn wsgi(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(merged(split(&unquote(path.as_bytes()))))
}

fn wsgi_twice(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(merged(split(&unquote(&unquote(path.as_bytes())))))
}

/// `ngx_http_parse_complex_uri`: decoded, `merge_slashes on`, dot segments resolved, NUL is a 400.
fn nginx(path: &str) -> Option<Vec<Vec<u8>>> {
    let decoded = unquote(path.as_bytes());
    (!decoded.contains(&0)).then(|| without_dots(merged(split(&decoded))))
}

/// `proxy_pass` with a URI: what nginx made of it is passed on, decoded, and decoded again.
fn nginx_then_asgi(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(split(&unquote(&[b"/", &*nginx(path)?.join(&b'/')].concat())))
}

/// Dot segments as they stand go, what is escaped stays; then it is unquoted.
fn normalised_then_asgi(path: &str) -> Option<Vec<Vec<u8>>> {
    let normalised = without_dots(split(path.as_bytes()));
    Some(split(&unquote(&normalised.join(&b'/'))))
}

/// `URL.Path` is decoded; `ServeMux` compares `path.Clean` of it.
fn go(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(without_dots(merged(split(&unquote(path.as_bytes())))))
}

fn bare(segment: &[u8]) -> Vec<u8> {
    until(segment, b";")
}

/// `CoyoteAdapter`: path parameters go first, then it is decoded, `\` is `/`, and it is normalised.
fn tomcat(path: &str) -> Option<Vec<Vec<u8>>> {
    let plain: Vec<Vec<u8>> = path.as_bytes().split(|byte| *byte == b'/').map(bare).collect();
    let decoded: Vec<u8> =
        unquote(&plain.join(&b'/')).iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    (!decoded.contains(&0)).then(|| without_dots(merged(split(&decoded))))
}

/// Decoded, then whatever stands behind a semicolon goes.
fn spring(path: &str) -> Option<Vec<Vec<u8>>> {
    let segments = split(&unquote(path.as_bytes()));
    Some(merged(segments.iter().map(|segment| bare(segment)).collect()))
}

/// Decoded but for `%2F`, dot segments resolved; routing ignores case.
fn kestrel(path: &str) -> Option<Vec<Vec<u8>>> {
    let kept = path.replace("%2F", "%252F").replace("%2f", "%252f");
    let decoded = unquote(kept.as_bytes());
    (!decoded.contains(&0)).then(|| lower(without_dots(split(&decoded))))
}

/// Decoded, `\` is `/`, dot segments resolved, dots and spaces at the end of a name do not count, nor does case.
fn iis(path: &str) -> Option<Vec<Vec<u8>>> {
    let decoded: Vec<u8> =
        unquote(path.as_bytes()).iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let trimmed = |segment: Vec<u8>| {
        let end = segment.iter().rposition(|byte| !b" .".contains(byte)).map_or(0, |last| last + 1);
        segment[..end].to_vec()
    };
    let segments = without_dots(merged(split(&decoded)));
    (!decoded.contains(&0)).then(|| lower(segments.into_iter().map(trimmed).collect()))
}

fn c_string(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(merged(split(&until(&unquote(path.as_bytes()), b"\0"))))
}

fn cgi(path: &str) -> Option<Vec<Vec<u8>>> {
    Some(merged(split(&until(&unquote(path.as_bytes()), b"?#"))))
}
