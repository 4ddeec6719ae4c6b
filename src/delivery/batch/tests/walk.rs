//! Any order of events, against a plain model.

use std::collections::HashMap;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// Something that happens to a log and its clients.
#[derive(Debug, Clone)]
enum Event {
    Say(Say),
    Pass {
        millis: u64,
        is_newest_only: bool,
    },
    /// So many batches for that client.
    Due {
        client: usize,
        batches: usize,
    },
    Forget,
}

#[derive(Debug, Clone)]
struct Say {
    key: Option<u8>,
    is_critical: bool,
    to: Option<usize>,
    has_deflated: bool,
    length: usize,
    times: usize,
}

const USERS: [&str; 3] = ["x", "y", "z"];

fn events() -> impl Strategy<Value = Vec<Event>> {
    let length = prop_oneof![20 => 24usize..60, 2 => 1000usize..5000, 1 => 20_000usize..70_000];
    let times = prop_oneof![10 => Just(1usize), 3 => 2usize..20, 1 => 50usize..150];
    let say = (
        proptest::option::of(0u8..4),
        proptest::bool::weighted(0.15),
        proptest::option::weighted(0.2, 0..USERS.len()),
        proptest::bool::weighted(0.3),
        length,
        times,
    )
        .prop_map(|(key, is_critical, to, has_deflated, length, times)| {
            Event::Say(Say { key, is_critical, to, has_deflated, length, times })
        });
    let pass = (0u64..150, proptest::bool::weighted(0.2))
        .prop_map(|(millis, is_newest_only)| Event::Pass { millis, is_newest_only });
    let due = (0usize..8, prop_oneof![Just(1usize), Just(usize::MAX)])
        .prop_map(|(client, batches)| Event::Due { client, batches });
    let event = prop_oneof![8 => say, 4 => pass, 8 => due, 1 => Just(Event::Forget)];
    proptest::collection::vec(event, 0..120)
}

struct Client {
    cursor: Cursor,
    has_deflate: bool,
    is_counting: bool,
    user: Option<Arc<str>>,
    /// All that was said from here on was for it to read.
    joined_at: u64,
    had: u64,
    left_out: u64,
}

impl Client {
    /// Clients that stand together, apart, and late joiners; with and without names and compression.
    fn all(log: &Log) -> Vec<Self> {
        let head = log.head();
        (0..8)
            .map(|n| {
                let cursor = match n {
                    0..4 => START,
                    4..6 => Cursor { next: 1, all_from: head / 2 + 1 },
                    _ => Cursor { next: head + 1, all_from: head + 1 },
                };
                let user = USERS.get(n % 4).map(|user| Arc::from(*user));
                let joined_at = cursor.all_from;
                Self {
                    cursor,
                    has_deflate: n % 2 == 0,
                    is_counting: n % 3 == 0,
                    user,
                    joined_at,
                    had: 0,
                    left_out: 0,
                }
            })
            .collect()
    }
}

/// All there is: the writer's side, and what each message was.
struct World {
    writer: Writer,
    said: Vec<NewEntry>,
    is_throttled: bool,
    is_trimmed: bool,
}

impl World {
    fn say(&mut self, say: &Say) {
        for _ in 0..say.times {
            let sequence = self.said.len() as u64 + 1;
            // A frame says how long it is, which message, and in which form.
            let frame = |form: u8| {
                let mut frame = vec![form; say.length];
                frame[..8].copy_from_slice(&(say.length as u64).to_be_bytes());
                frame[8..16].copy_from_slice(&sequence.to_be_bytes());
                Bytes::from(frame)
            };
            let draft = NewEntry {
                message: Message::from_frame(Kind::Text, frame(b'p')),
                deflated: say.has_deflated.then(|| frame(b'z')),
                is_critical: say.is_critical,
                key: say.key.map(|key| Arc::from(key.to_string())),
                to: say.to.map(|user| Arc::from(USERS[user])),
            };
            self.said.push(draft.clone());
            assert_eq!(self.writer.append(draft), sequence);
        }
    }

    fn draft(&self, sequence: u64) -> &NewEntry {
        &self.said[sequence as usize - 1]
    }

    /// Whether a newer message stands for this one, among those up to `until`.
    fn is_stood_for(&self, sequence: u64, until: u64, is_newest_only: bool) -> bool {
        let old = self.draft(sequence);
        if old.is_critical || old.to.is_some() {
            return false;
        }
        (sequence + 1..=until).map(|newer| self.draft(newer)).any(|newer| {
            let is_plain = !newer.is_critical && newer.to.is_none();
            let has_its_key = self.is_throttled && old.key.is_some() && old.key == newer.key;
            is_plain && (has_its_key || is_newest_only)
        })
    }

    /// What a batch has, frame by frame.
    fn sequences(&self, batch: &Batch, has_deflate: bool) -> Vec<u64> {
        let mut sequences = Vec::new();
        let mut rest = &batch.bytes[..];
        while !rest.is_empty() {
            let number = |at: Range<usize>| u64::from_be_bytes(rest[at].try_into().unwrap());
            let (length, sequence) = (number(0..8), number(8..16));
            let draft = self.draft(sequence);
            let form = draft.deflated.as_ref().filter(|_| has_deflate).unwrap_or(draft.message.frame());
            assert_eq!(&rest[..length as usize], form, "{sequence}");
            sequences.push(sequence);
            rest = &rest[length as usize..];
        }
        sequences
    }

    /// One step of one client, looked at from all sides. Answers whether there is more.
    fn follow(&self, client: &mut Client, batcher: &mut Batcher) -> bool {
        let (until, is_newest_only) = (batcher.until, batcher.is_newest_only);
        let view = View {
            encoding: Encoding::of_frames(client.has_deflate),
            user: client.user.as_ref(),
            is_counting: client.is_counting,
        };
        let batch = batcher.due(client.cursor, view);
        let old = std::mem::replace(&mut client.cursor, batch.cursor);
        let had = self.sequences(batch, client.has_deflate);
        assert_eq!(had.len(), batch.messages as usize);
        assert!(had.len() <= 64 && (had.len() == 1 || batch.bytes.len() <= 64 * 1024));
        assert!(had.is_sorted_by(|a, b| a < b), "in order, none twice: {had:?}");
        let ends = (had.first().copied().unwrap_or(0), had.last().copied().unwrap_or(0));
        assert_eq!(ends, (batch.oldest, batch.newest));
        if client.is_counting {
            assert!(had.is_sorted_by(|a, b| a + 1 == *b), "it can count them: {had:?}");
        }
        if old.next > until {
            assert_eq!((batch.cursor.next, had.len(), batch.has_more), (old.next, 0, false));
            return false;
        }
        assert!((old.next + 1..=until + 1).contains(&batch.cursor.next), "it leads on");
        assert!(batch.has_more || batch.cursor.next == until + 1);
        let mut left_out = 0;
        let mut others = 0;
        for sequence in old.next..batch.cursor.next {
            let draft = self.draft(sequence);
            let is_for_others = draft.to.as_ref().is_some_and(|to| client.user.as_ref() != Some(to));
            let is_to_be_read = sequence >= old.all_from || draft.is_critical;
            if had.contains(&sequence) {
                assert!(is_to_be_read && !is_for_others, "{sequence} was not to be read");
            } else if is_for_others {
                others += u64::from(is_to_be_read);
            } else if is_to_be_read {
                left_out += 1;
                let may_be_gone = self.is_trimmed && (batch.missed > 0 || sequence < old.all_from);
                assert!(
                    may_be_gone || self.is_stood_for(sequence, until, is_newest_only),
                    "{sequence} is lost"
                );
            }
        }
        assert!(batch.missed == 0 || self.is_trimmed);
        if !self.is_trimmed || (batch.missed == 0 && old.all_from <= old.next) {
            assert_eq!((batch.others, batch.conflated + batch.shed), (others, left_out));
        }
        assert!(self.is_throttled || batch.conflated == 0);
        assert!(is_newest_only || batch.shed == 0);
        // Critical ones from before it joined come in addition.
        let is_counted = |sequence: &&u64| **sequence >= client.joined_at;
        client.had += had.iter().filter(is_counted).count() as u64;
        client.left_out += batch.missed + batch.others + batch.conflated + batch.shed;
        batch.has_more
    }
}

fn walk(events: &[Event], is_throttled: bool, keeps: usize) {
    let is_trimmed = keeps < 1000;
    let mut world = World { writer: writer(keeps), said: Vec::new(), is_throttled, is_trimmed };
    let mut batcher = batcher(&world.writer, is_throttled);
    let (first, rest) = events.split_at(events.len() / 3);
    first.iter().for_each(|event| {
        if let Event::Say(say) = event {
            world.say(say);
        }
    });
    let mut clients = Client::all(world.writer.log());
    let mut now = Instant::now();
    for event in rest {
        match event {
            Event::Say(say) => world.say(say),
            Event::Pass { millis, is_newest_only } => {
                now += Duration::from_millis(*millis);
                let head = world.said.len() as u64;
                let (until, next) = batcher.begin(*is_newest_only, now);
                assert_eq!(next.is_some(), until < head, "told when, if something waits");
                assert!(next.is_none_or(|next| next > now && next <= now + EVERY));
            }
            Event::Due { client, batches } => {
                let mut batches = *batches;
                while batches > 0 && world.follow(&mut clients[*client], &mut batcher) {
                    batches -= 1;
                }
            }
            Event::Forget => batcher.clear(),
        }
    }
    now += EVERY;
    let head = world.said.len() as u64;
    assert_eq!(batcher.begin(false, now), (head, None));
    for (n, client) in clients.iter_mut().enumerate() {
        while world.follow(client, &mut batcher) {}
        assert_eq!(client.cursor.next, client.joined_at.max(head + 1), "{n} has all there is");
        // Late joiners: what is for others and critical from before is counted as well.
        if !(4..6).contains(&n) {
            assert_eq!(client.had + client.left_out, head + 1 - client.joined_at, "{n}");
        }
    }
}

/// Of each key, the newest message always comes.
fn walk_to_the_newest(events: &[Event]) {
    let mut world =
        World { writer: writer(100_000), said: Vec::new(), is_throttled: true, is_trimmed: false };
    let mut batcher = batcher(&world.writer, true);
    let mut now = Instant::now();
    let mut cursor = START;
    let mut newest: HashMap<Arc<str>, u64> = HashMap::new();
    let mut catch_up = |batcher: &mut Batcher, world: &World, batches: usize| {
        for _ in 0..batches {
            let batch = batcher.due(cursor, ANYBODY);
            for sequence in world.sequences(batch, false) {
                let draft = world.draft(sequence);
                if let (Some(key), false, None) = (&draft.key, draft.is_critical, &draft.to) {
                    newest.insert(key.clone(), sequence);
                }
            }
            cursor = batch.cursor;
            if !batch.has_more {
                break;
            }
        }
        newest.clone()
    };
    for event in events {
        match event {
            Event::Say(say) => world.say(say),
            Event::Pass { millis, .. } => {
                now += Duration::from_millis(*millis);
                batcher.begin(false, now);
            }
            Event::Due { batches, .. } => drop(catch_up(&mut batcher, &world, *batches)),
            Event::Forget => batcher.clear(),
        }
    }
    batcher.begin(false, now + EVERY);
    let had = catch_up(&mut batcher, &world, usize::MAX);
    let mut said = HashMap::new();
    for (place, draft) in world.said.iter().enumerate() {
        if let (Some(key), false, None) = (&draft.key, draft.is_critical, &draft.to) {
            said.insert(key.clone(), place as u64 + 1);
        }
    }
    assert_eq!(had, said);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn each_message_comes_once_in_order_or_is_counted(events in events(), is_throttled: bool) {
        walk(&events, is_throttled, 100_000);
    }

    #[test]
    fn it_is_so_while_the_log_lets_messages_go(events in events(), is_throttled: bool, keeps in 1usize..200) {
        walk(&events, is_throttled, keeps);
    }

    #[test]
    fn of_each_key_the_newest_comes(events in events()) {
        walk_to_the_newest(&events);
    }
}
