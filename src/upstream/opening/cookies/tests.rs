use proptest::prelude::*;

use super::{Cookies, MAX_BYTES, MAX_COOKIES};

/// 2026-01-01, in seconds since 1970.
const NOW: i64 = 1_767_225_600;

/// What becomes of `line` by each of `answers`, and how many of them found no room.
fn applied(line: &[u8], answers: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut cookies = Cookies::of_lines(std::iter::once(line));
    let refused = answers.iter().filter(|answer| !cookies.set(answer, NOW)).count();
    (cookies.to_line(), refused)
}

#[test]
fn what_the_server_sets_is_sent_to_it() {
    const PAST: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
    const FUTURE: &str = "Fri, 31 Dec 2027 23:59:59 GMT";
    let kept = "sid=old; theme=dark";
    let with_date = |set: &str, date: &str| format!("{set}; Expires={date}");
    // what is set, and what `kept` is then
    for (set, expected) in [
        ("sid=new", "sid=new; theme=dark"),
        ("  sid  =  new  ", "sid=new; theme=dark"),
        ("theme=light; Path=/; HttpOnly; Secure; SameSite=Lax; Domain=other.example", "sid=old; theme=light"),
        ("lang=de", "sid=old; theme=dark; lang=de"),
        ("sid=", "sid=; theme=dark"),
        ("sid=a=b==", "sid=a=b==; theme=dark"),
        // Quotes are a part of the value.
        ("sid=\"new one\"", "sid=\"new one\"; theme=dark"),
        ("sid=\"a;b\"", "sid=\"a; theme=dark"),
        // Names have a case, prefixes mean nothing here.
        ("SID=new", "sid=old; theme=dark; SID=new"),
        ("__Host-sid=new", "sid=old; theme=dark; __Host-sid=new"),
        ("__Secure-sid=new; Path=/x", "sid=old; theme=dark; __Secure-sid=new"),
        // No name, or no pair at all.
        ("sid", kept),
        ("", kept),
        (";", kept),
        ("; sid=new", kept),
        ("=new", kept),
        ("=sid=new", kept),
        ("  =sid=new", kept),
        // Deleted by its age.
        ("sid=; Max-Age=0", "theme=dark"),
        ("sid=new; max-age=-1", "theme=dark"),
        ("sid=new; MAX-AGE = -0", "theme=dark"),
        ("sid=new; Max-Age=00000000000000000000000000", "theme=dark"),
        ("lang=; Max-Age=0", kept),
        ("Sid=; Max-Age=0", kept),
        // An age that is one, or none.
        ("sid=new; Max-Age=1", "sid=new; theme=dark"),
        ("sid=new; Max-Age=99999999999999999999999999", "sid=new; theme=dark"),
        ("sid=new; Max-Age=", "sid=new; theme=dark"),
        ("sid=new; Max-Age=-", "sid=new; theme=dark"),
        ("sid=new; Max-Age=+0", "sid=new; theme=dark"),
        ("sid=new; Max-Age=0x", "sid=new; theme=dark"),
        ("sid=new; Max-Age", "sid=new; theme=dark"),
        // Of several the last one that can be read.
        ("sid=new; Max-Age=0; Max-Age=5", "sid=new; theme=dark"),
        ("sid=new; Max-Age=5; Max-Age=0; Max-Age=soon", "theme=dark"),
        // By its date.
        (&with_date("sid=new", PAST), "theme=dark"),
        (&with_date("sid=new", "Thu, 01-Jan-2026 00:00:00 GMT"), "theme=dark"),
        (&with_date("sid=new", "Thu, 01-Jan-2026 00:00:01 GMT"), "sid=new; theme=dark"),
        (&with_date("sid=new", FUTURE), "sid=new; theme=dark"),
        (&with_date("sid=new", "0"), "sid=new; theme=dark"),
        // The age goes before the date.
        (&with_date("sid=new; Max-Age=5", PAST), "sid=new; theme=dark"),
        (&with_date("sid=new; Max-Age=0", FUTURE), "theme=dark"),
        (&with_date("sid=new; Max-Age=soon", PAST), "theme=dark"),
        // Control characters.
        ("sid=n\0w", kept),
        ("sid=n\rw", kept),
        ("sid=new\nX-Injected: yes", kept),
        ("sid=new; Path=/\x7f", kept),
        ("sid=\tnew\t", "sid=new; theme=dark"),
        ("sid=caf\u{e9}", "sid=caf\u{e9}; theme=dark"),
    ] {
        let (line, refused) = applied(kept.as_bytes(), &[set.as_bytes()]);
        assert_eq!((str::from_utf8(&line).unwrap(), refused), (expected, 0), "{set:?}");
    }
}

#[test]
fn cookies_of_the_client_stay_as_they_came() {
    for (line, set, expected) in [
        ("", "sid=new", "sid=new"),
        ("", "sid=; Max-Age=0", ""),
        ("sid=old", "sid=; Max-Age=0", ""),
        ("a=1;b=2 ;;  c=\"3 4\"; nameless ; =x", "b=5", "a=1; b=5; c=\"3 4\"; nameless; =x"),
        // Of several with one name, set for several paths, the newest is left.
        ("sid=1; a=2; sid=3; sid=4; b=5", "sid=new", "sid=new; a=2; b=5"),
        ("sid=1; a=2; sid=3", "sid=; Max-Age=0", "a=2"),
        // A value without a name is no cookie of that name.
        ("sid; a=1", "sid=new", "sid; a=1; sid=new"),
        ("sid; a=1", "sid=new; Max-Age=0", "sid; a=1"),
    ] {
        let (applied, _) = applied(line.as_bytes(), &[set.as_bytes()]);
        assert_eq!(str::from_utf8(&applied).unwrap(), expected, "{line:?} {set:?}");
    }
}

#[test]
fn lines_are_joined() {
    let lines = [&b"a=1; b=2"[..], b"c=3", b"", b"d=4;"];
    assert_eq!(Cookies::of_lines(lines.into_iter()).to_line(), b"a=1; b=2; c=3; d=4");
}

#[test]
fn what_is_beyond_the_bounds_is_refused_and_what_the_client_sent_stays() {
    let pairs = |count: usize| (0..count).map(|n| format!("c{n}=x")).collect::<Vec<_>>().join("; ");
    for (held, refused) in [(MAX_COOKIES - 1, 0), (MAX_COOKIES, 1), (MAX_COOKIES + 100, 1)] {
        let line = pairs(held);
        let (applied, count) = applied(line.as_bytes(), &[b"sid=new"]);
        let expected = if refused == 0 { format!("{line}; sid=new") } else { line };
        assert_eq!((str::from_utf8(&applied).unwrap(), count), (&*expected, refused), "{held}");
    }
    // One that is there already is replaced however many there are.
    let (line, refused) = applied(pairs(MAX_COOKIES + 100).as_bytes(), &[b"c0=y"]);
    assert!(line.starts_with(b"c0=y; c1=x") && refused == 0);
    // By bytes: `c=` and this much fill the line.
    let room = MAX_BYTES - "a=1; c=".len();
    for (len, refused) in [(room, 0), (room + 1, 1)] {
        let set = format!("c={}", "x".repeat(len));
        let (line, count) = applied(b"a=1", &[set.as_bytes()]);
        assert_eq!((line.len(), count), (if refused == 0 { MAX_BYTES } else { 3 }, refused), "{len}");
        let (line, count) = applied(b"a=1; c=old", &[set.as_bytes()]);
        assert_eq!((line.len(), count), (if refused == 0 { MAX_BYTES } else { 10 }, refused), "{len}");
    }
    // A client's own line may be longer. It does not grow, and what it says is the newest all the same.
    let long = format!("a=1; c={}", "x".repeat(2 * MAX_BYTES));
    for (set, refused) in [("a=2", 0), ("a=", 0), ("a=22", 1), ("b=", 1)] {
        let (line, count) = applied(long.as_bytes(), &[set.as_bytes()]);
        assert!(line.len() <= long.len(), "{set}");
        assert_eq!((line.starts_with(format!("{set};").as_bytes()), count), (refused == 0, refused), "{set}");
    }
}

proptest! {
    #[test]
    fn a_line_never_grows_beyond_its_bounds_and_never_says_anything_else(
        sets in proptest::collection::vec("[a-c;= \t\"]{0,8}(; ?(Max-Age|Expires|x)=[0-9a-c -]{0,4})?", 0..40),
    ) {
        let mut cookies = Cookies::of_lines(std::iter::empty());
        for set in &sets {
            let before = cookies.clone();
            if !cookies.set(set.as_bytes(), NOW) {
                prop_assert!(cookies == before);
            }
            let line = cookies.to_line();
            prop_assert!(line.len() <= MAX_BYTES);
            // Whoever reads the line finds the cookies that were set, one of each name.
            let read = Cookies::of_lines(std::iter::once(&line[..]));
            prop_assert!(read == cookies, "{:?}", String::from_utf8_lossy(&line));
            let mut names: Vec<_> = cookies.pairs.iter().map(|pair| super::name_of(pair)).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            prop_assert_eq!(names.len(), count);
        }
    }
}
