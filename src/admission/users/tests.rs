use OnUserLimit::{Refuse, ReplaceOldest};
use proptest::prelude::*;

use super::*;

fn name(user: &str) -> Arc<str> {
    user.into()
}

fn is_empty(users: &Users<u64>) -> bool {
    users.shares.is_empty() && users.open.is_empty() && users.ending.is_empty()
}

/// A connection from its handshake to where it is open; the number reaches it.
fn connect(users: &mut Users<u64>, user: &str, id: u64, limit: u32) -> Displaced<u64> {
    assert!(users.reserve(&name(user), Some(limit), ReplaceOldest), "{user} {id}");
    users.open(&name(user), id, id, Some(limit))
}

#[test]
fn the_oldest_goes_and_the_longest_waited_for_is_cut() {
    let mut users = Users::default();
    let nobody = || Displaced { oldest: None, overdue: None };
    assert_eq!(connect(&mut users, "ann", 1, 1), nobody());
    assert_eq!(connect(&mut users, "bob", 2, 1), nobody());
    assert_eq!(connect(&mut users, "ann", 3, 1), Displaced { oldest: Some(1), overdue: None });
    assert_eq!(connect(&mut users, "ann", 4, 1), Displaced { oldest: Some(3), overdue: Some(1) });
    // What was cut has not gone yet: one more would be too many.
    assert!(!users.reserve(&name("ann"), Some(1), ReplaceOldest));
    users.release(name("ann"), Some(1));
    assert_eq!(connect(&mut users, "ann", 5, 1), Displaced { oldest: Some(4), overdue: Some(3) });
    for (user, id) in [("ann", 3), ("ann", 4), ("ann", 5), ("bob", 2)] {
        users.release(name(user), Some(id));
    }
    assert!(is_empty(&users));
}

#[test]
fn nobody_goes_for_a_handshake_that_comes_to_nothing_and_one_at_a_time_may_try() {
    let mut users = Users::default();
    connect(&mut users, "ann", 1, 1);
    assert!(users.reserve(&name("ann"), Some(1), ReplaceOldest));
    assert!(!users.reserve(&name("ann"), Some(1), ReplaceOldest), "there is nothing that could be closed");
    users.release(name("ann"), None);
    assert_eq!(connect(&mut users, "ann", 2, 1).oldest, Some(1));
}

#[test]
fn who_is_there_without_a_limit_is_known_when_there_is_one_and_only_one_goes_for_one() {
    let mut users = Users::default();
    for id in 1..=5 {
        assert!(users.reserve(&name("ann"), None, Refuse));
        assert_eq!(users.open(&name("ann"), id, id, None).oldest, None);
    }
    assert!(!users.reserve(&name("ann"), Some(5), Refuse));
    assert_eq!(connect(&mut users, "ann", 6, 2).oldest, Some(1));
    assert_eq!(connect(&mut users, "ann", 7, 2).oldest, Some(2));
    assert_eq!(users.shares[&name("ann")], Share { pending: 0, open: 5, ending: 2 });
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Come(bool),
    Open(usize),
    LeaveComing,
    Leave(usize),
}

proptest! {
    #[test]
    fn whatever_happens_the_count_holds_its_bounds_and_ends_at_nothing(
        limit in 1_u32..4,
        steps in proptest::collection::vec(
            prop_oneof![
                any::<bool>().prop_map(Step::Come),
                any::<usize>().prop_map(Step::Open),
                Just(Step::LeaveComing),
                any::<usize>().prop_map(Step::Leave),
            ],
            0..200,
        ),
    ) {
        let mut users = Users::default();
        let names = [name("ann"), name("bob")];
        // Beside it: who is there, in plain lists.
        let (mut pending, mut open, mut waited, mut cut) = (vec![], vec![], vec![], vec![]);
        let mut next = 1;
        for step in steps {
            match step {
                Step::Come(first) => {
                    let user = &names[usize::from(first)];
                    if users.reserve(user, Some(limit), ReplaceOldest) {
                        pending.push(Arc::clone(user));
                    }
                }
                Step::Open(at) if !pending.is_empty() => {
                    let user: Arc<str> = pending.swap_remove(at % pending.len());
                    let displaced = users.open(&user, next, next, Some(limit));
                    open.push((user, next));
                    next += 1;
                    if let Some(oldest) = displaced.oldest {
                        let at = open.iter().position(|(_, id)| *id == oldest).unwrap();
                        let gone = open.remove(at);
                        prop_assert!(!open.iter().any(|(user, id)| *user == gone.0 && *id < gone.1));
                        waited.push(gone);
                    }
                    if let Some(overdue) = displaced.overdue {
                        let at = waited.iter().position(|(_, id)| *id == overdue).unwrap();
                        cut.push(waited.remove(at));
                    }
                }
                Step::LeaveComing if !pending.is_empty() => users.release(pending.pop().unwrap(), None),
                Step::Leave(at) => {
                    let lists = [&mut open, &mut waited, &mut cut];
                    let list = lists.into_iter().nth(at % 3).unwrap();
                    if !list.is_empty() {
                        let (user, id) = list.remove(at % list.len());
                        users.release(user, Some(id));
                    }
                }
                Step::Open(_) | Step::LeaveComing => {}
            }
            for user in &names {
                let of = |list: &[(Arc<str>, u64)]| list.iter().filter(|(name, _)| name == user).count() as u32;
                let comes = pending.iter().filter(|name| *name == user).count() as u32;
                let share = users.shares.get(user).copied().unwrap_or_default();
                let ending = of(&waited) + of(&cut);
                prop_assert_eq!(share, Share { pending: comes, open: of(&open), ending });
                prop_assert!(share.open <= limit && share.pending + share.ending <= 2 * limit);
                prop_assert!(of(&waited) <= limit, "{} are waited for", of(&waited));
            }
        }
        for user in pending {
            users.release(user, None);
        }
        for (user, id) in open.into_iter().chain(waited).chain(cut) {
            users.release(user, Some(id));
        }
        prop_assert!(is_empty(&users));
    }
}
