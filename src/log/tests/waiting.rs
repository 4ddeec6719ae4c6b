//! Those who wait for one message.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use super::*;

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Counted {
    fn poll(self: &Arc<Self>, waiting: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        waiting.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn history() -> History {
    let age = Duration::from_secs(3600);
    History { messages: 10, bytes: usize::MAX, age, critical: None, on_join: OnJoin::None }
}

fn say(writer: &mut Writer) {
    let message = Message::new(Kind::Text, b"x");
    writer.append(NewEntry { message, deflated: None, is_critical: false, key: None, to: None });
}

#[test]
fn who_waits_is_woken_once_and_is_in_the_list_until_then_or_until_it_gives_up() {
    let world = World::roomy();
    let mut writer = world.log(&history());
    let log = Arc::clone(writer.log());
    let (one, other) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
    let mut first = pin!(log.appended(0));
    let mut second = Box::pin(log.appended(0));
    for _ in 0..3 {
        assert_eq!((one.poll(first.as_mut()), other.poll(second.as_mut())), (Poll::Pending, Poll::Pending));
        assert_eq!(log.waiters().len(), 2, "once each, however often it is polled");
    }
    // Moved to another task, it wakes that one.
    assert_eq!(one.poll(second.as_mut()), Poll::Pending);
    drop(second);
    assert_eq!(log.waiters().len(), 1);
    say(&mut writer);
    writer.wake();
    writer.wake();
    assert_eq!((one.times(), other.times(), log.waiters().len()), (1, 0, 0));
    assert_eq!(one.poll(first.as_mut()), Poll::Ready(()));
    // What is there already is not waited for.
    assert_eq!(one.poll(pin!(log.appended(0))), Poll::Ready(()));
    assert_eq!(log.waiters().len(), 0);
}

#[test]
fn who_was_woken_takes_nobody_else_out_of_the_list() {
    let world = World::roomy();
    let mut writer = world.log(&history());
    let log = Arc::clone(writer.log());
    let (woken, later) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
    let mut before = Box::pin(log.appended(0));
    assert_eq!(woken.poll(before.as_mut()), Poll::Pending);
    say(&mut writer);
    writer.wake();
    // It has the place that the other one had.
    let mut after = pin!(log.appended(1));
    assert_eq!(later.poll(after.as_mut()), Poll::Pending);
    drop(before);
    assert_eq!(log.waiters().len(), 1);
    // Woken for nothing that is new to it, it waits again.
    writer.wake();
    assert_eq!((later.times(), later.poll(after.as_mut())), (1, Poll::Pending));
    say(&mut writer);
    writer.wake();
    assert_eq!((later.times(), later.poll(after.as_mut())), (2, Poll::Ready(())));
}

#[test]
fn with_real_threads_nobody_waits_for_what_is_there() {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    const MESSAGES: u64 = 2000;
    let world = World::roomy();
    let mut writer = world.log(&history());
    let log = Arc::clone(writer.log());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let waker = Waker::from(Arc::new(Unpark(thread::current())));
                let mut had = 0;
                while had < MESSAGES {
                    let mut waiting = pin!(log.appended(had));
                    while waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                        let begun = tokio::time::Instant::now();
                        thread::park_timeout(Duration::from_secs(30));
                        assert!(begun.elapsed() < Duration::from_secs(30), "a wake-up was missed");
                    }
                    had = log.head();
                }
            });
        }
        for _ in 0..MESSAGES {
            say(&mut writer);
            writer.wake();
        }
    });
    assert_eq!(log.waiters().len(), 0);
}

#[test]
fn it_is_known_from_where_on_all_is_kept() {
    let world = World::roomy();
    let mut writer = world.log(&history());
    let log = Arc::clone(writer.log());
    assert_eq!(log.first(), 1);
    for _ in 0..13 {
        say(&mut writer);
    }
    assert_eq!((log.first(), log.head()), (4, 13));
}
