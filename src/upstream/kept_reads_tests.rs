//! Stories of what is kept, found and let go.

use super::*;
use crate::policy::Policy;

const TTL: Duration = Duration::from_secs(60);

fn reads() -> KeptReads {
    KeptReads::new(&Bounds { cache_entry: 4096, cache_total: 64 * 1024, ..Bounds::default() })
}

fn key(upstream: &str, uri: &str) -> ReadKey {
    ReadKey {
        upstream: UpstreamName::new(upstream),
        method: Method::ReadResource,
        uri: uri.into(),
        context: AuthorizationContext { principal: Principal::Local, credential: Credential::OfGateway },
    }
}

fn result(members: &str) -> Object {
    Object::parse(format!(r#"{{"contents":[],{members}}}"#).into(), Limits::default()).expect("valid")
}

fn public() -> Object {
    result(r#""ttlMs":60000,"cacheScope":"public""#)
}

fn keep(reads: &KeptReads, key: &ReadKey, result: &Object, now: Instant) -> Lifetime {
    reads.keep(key, reads.asking(&key.upstream), result, now)
}

fn find(reads: &KeptReads, key: &ReadKey, now: Instant) -> Option<u64> {
    let permit = Policy::default().authorise(key.context.principal, &key.upstream);
    reads.find(permit, key, now).map(|(_, lifetime)| lifetime.ttl_ms())
}

#[test]
fn s_cache_04_a_result_is_found_until_received_plus_ttl_with_what_is_left_of_it() {
    let (reads, now) = (reads(), Instant::now());
    let key = key("one", "x:1");
    assert_eq!(find(&reads, &key, now), None);
    assert_eq!(keep(&reads, &key, &public(), now).ttl, TTL);
    assert_eq!(find(&reads, &key, now + TTL / 4), Some(45_000));
    assert_eq!(find(&reads, &key, now + TTL - Duration::from_millis(1)), Some(1));
    assert_eq!(find(&reads, &key, now + TTL), None);
}

#[test]
fn s_cache_04_what_is_not_fresh_for_a_moment_is_not_kept() {
    let (reads, now) = (reads(), Instant::now());
    for (n, members) in
        [r#""ttlMs":0"#, r#""ttlMs":-5"#, r#""ttlMs":"9000""#, r#""x":1"#].into_iter().enumerate()
    {
        let key = key("one", &format!("x:{n}"));
        assert_eq!(keep(&reads, &key, &result(members), now).ttl, Duration::ZERO, "{members}");
        assert_eq!(find(&reads, &key, now), None, "{members}");
        assert!(!reads.is_promising(&key.upstream));
    }
    keep(&reads, &key("one", "x:y"), &public(), now);
    assert!(reads.is_promising(&UpstreamName::new("one")), "it gives what can be kept");
}

#[test]
fn s_cache_02_nothing_is_kept_longer_than_the_gateway_s_own_limit() {
    let bounds = Bounds { cache_age: Duration::from_secs(10), ..Bounds::default() };
    let (reads, now) = (KeptReads::new(&bounds), Instant::now());
    let key = key("one", "x:1");
    assert_eq!(keep(&reads, &key, &public(), now).ttl, bounds.cache_age);
    assert_eq!(find(&reads, &key, now + bounds.cache_age), None);
}

#[test]
fn s_cache_03_what_is_private_is_found_within_its_authorization_context_alone() {
    // There is one principal and one credential so far: that they are part of the place is what keeps others out.
    let (key, other) = (key("one", "x:1"), key("two", "x:1"));
    let private = Slot::of(&key, Scope::Private);
    assert_eq!(private.only, Some(key.context));
    assert_eq!(Slot::of(&key, Scope::Public).only, None);
    assert_ne!(private, Slot::of(&key, Scope::Public));
    let (reads, now) = (reads(), Instant::now());
    keep(&reads, &key, &result(r#""ttlMs":60000,"cacheScope":"private""#), now);
    assert!(
        reads.kept.contains_key(&private)
            && !reads.kept.contains_key(&Slot { only: None, ..private.clone() })
    );
    assert_eq!(find(&reads, &key, now), Some(60_000));
    assert_eq!(find(&reads, &other, now), None, "of another upstream");
    keep(&reads, &other, &result(r#""ttlMs":60000"#), now);
    assert!(reads.kept.contains_key(&Slot::of(&other, Scope::Private)), "nothing said is private");
}

#[test]
fn s_cache_04_an_update_revokes_the_resource_what_is_below_and_what_it_is_in() {
    let (reads, now) = (reads(), Instant::now());
    let uris = ["f:/a", "f:/a/", "f:/a/b", "f:/a/b/c", "f:/a/c", "f:/x", "f:/"];
    let left = |told: &str| {
        uris.iter().for_each(|uri| _ = keep(&reads, &key("one", uri), &public(), now));
        keep(&reads, &key("two", "f:/a/b"), &public(), now);
        reads.revoke(&UpstreamName::new("one"), told);
        assert!(find(&reads, &key("two", "f:/a/b"), now).is_some(), "another's resource of that name");
        let found = uris.iter().filter(|uri| find(&reads, &key("one", uri), now).is_some());
        found.copied().collect::<Vec<_>>()
    };
    assert_eq!(left("f:/a/b"), ["f:/a/c", "f:/x"]);
    assert_eq!(left("f:/a"), ["f:/x"]);
    assert_eq!(left("f:/nowhere"), ["f:/a", "f:/a/", "f:/a/b", "f:/a/b/c", "f:/a/c", "f:/x"]);
    reads.revoke_all(&UpstreamName::new("one"));
    assert!(uris.iter().all(|uri| find(&reads, &key("one", uri), now).is_none()));
    assert!(reads.counts().revoked > 0);
}

#[test]
fn s_cache_04_what_was_asked_for_before_a_change_was_told_is_not_kept() {
    let (reads, now) = (reads(), Instant::now());
    let key = key("one", "x:1");
    let asked = reads.asking(&key.upstream);
    reads.revoke(&key.upstream, "x:1");
    assert_eq!(reads.keep(&key, asked, &public(), now).ttl, Duration::ZERO, "nor may its reader keep it");
    assert_eq!(find(&reads, &key, now), None);
    keep(&reads, &key, &public(), now);
    assert!(find(&reads, &key, now).is_some());
}

#[test]
fn s_cache_03_memory_is_bounded_by_entry_and_in_all() {
    let (reads, now) = (reads(), Instant::now());
    let sized = |bytes: usize| result(&format!(r#""ttlMs":60000,"x":"{}""#, "y".repeat(bytes)));
    let large = key("one", "x:large");
    assert_eq!(keep(&reads, &large, &sized(5_000), now).ttl, TTL, "its reader may keep it");
    assert_eq!(find(&reads, &large, now), None);
    for n in 0..200 {
        keep(&reads, &key("one", &format!("x:{n}")), &sized(3_000), now);
    }
    let counts = reads.counts();
    assert!((1..=21).contains(&counts.entries) && counts.bytes <= 64 * 1024, "{counts:?}");
    let indexed = reads.lock()[&large.upstream].by_uri.len();
    assert!(indexed <= 2 * SWEEP_LEAST, "{indexed} are remembered");
}

#[tokio::test]
async fn s_cache_03_one_reader_asks_and_the_others_wait_and_the_next_goes_on_when_it_leaves() {
    let reads = reads();
    let key = key("one", "x:1");
    let first = reads.turn(&key, TTL).await;
    assert!(first.leads());
    let second = reads.turn(&key, TTL);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    let given_up = reads.turn(&key, Duration::ZERO).await;
    assert!(!given_up.leads(), "whose patience is over asks beside the others");
    drop(given_up);
    // It leaves without an answer.
    drop(first);
    let second = second.await;
    assert!(second.leads());
    drop(second);
    assert_eq!(reads.turns.len(), 0);
}

#[tokio::test]
async fn s_cache_03_an_answer_for_one_alone_frees_all_who_wait_for_it() {
    let reads = reads();
    let key = key("one", "x:1");
    let first = reads.turn(&key, TTL).await;
    let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(reads.turn(&key, TTL))).collect();
    for reader in &mut waiting {
        assert!(futures_util::poll!(reader).is_pending());
    }
    first.is_for_nobody_else();
    drop(first);
    let all = futures_util::future::join_all(waiting).await;
    assert!(all.iter().all(|turn| !turn.leads()), "each asks for itself, none waits for another");
    assert!(reads.turn(&key, TTL).await.leads(), "who comes later begins anew");
    drop(all);
    assert_eq!(reads.turns.len(), 0);
}
