use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::{BoxFuture, join_all};
use tokio::{sync::Semaphore, time::Instant};

use super::*;
use crate::{
    cert::PrivateKey,
    testing::{Life, TestCa, id, key_pair, leaf_params_at},
};

/// An issuer whose answers the test decides.
struct Scripted {
    ca: TestCa,
    clock: Clock,
    calls: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    fails: AtomicBool,
    /// Each answer takes one permit.
    answers: Semaphore,
    asked_for: Mutex<Vec<SpiffeId>>,
}

const MANY: usize = 1 << 20;
const LIFE: Life = Life { begun: Duration::ZERO, lasts: Duration::from_secs(3600) };

impl Issuer for Scripted {
    fn issue<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.asked_for.lock().push(identity.clone());
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_max.fetch_max(at_once, Ordering::SeqCst);
            self.answers.acquire().await.expect("open").forget();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            if self.fails.load(Ordering::SeqCst) {
                return Err(IssueError::TooShort { identity: identity.clone(), elements: 0 });
            }
            let key = key_pair();
            let leaf = self.ca.sign(leaf_params_at(&[&identity.to_string()], LIFE, self.clock.now()), &key);
            let key = PrivateKey::from_pkcs8(key.serialize_der());
            Ok(WorkloadCertificate::from_pem_elements(&[leaf, self.ca.pem()], key).expect("a certificate"))
        })
    }
}

struct Rig {
    issuer: Arc<Scripted>,
    keeper: Keeper,
}

impl Rig {
    /// An issuer with so many answers to give, and a clock that follows the paused one.
    fn new(answers: usize) -> Self {
        let (started, began) = (Instant::now(), SystemTime::now());
        let clock = Clock::new(move || began + started.elapsed());
        let issuer = Arc::new(Scripted {
            ca: TestCa::new("root"),
            clock: clock.clone(),
            calls: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            answers: Semaphore::new(answers),
            asked_for: Mutex::new(Vec::new()),
        });
        let keeper = Keeper::new(issuer.clone(), clock, &Tasks::new(), &Drain::new());
        Self { issuer, keeper }
    }

    fn calls(&self) -> usize {
        self.issuer.calls.load(Ordering::SeqCst)
    }

    async fn serial(&self, identity: SpiffeId) -> String {
        self.keeper.certificate(&identity).await.expect("a certificate").serial().to_owned()
    }
}

fn web(number: usize) -> SpiffeId {
    id(&format!("spiffe://cluster.local/ns/web/sa/{number}"))
}

/// Lets paused time pass.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn many_callers_make_one_request() {
    let rig = Rig::new(MANY);
    let serials: HashSet<String> = join_all((0..100).map(|_| rig.serial(web(1)))).await.into_iter().collect();
    assert_eq!((serials.len(), rig.calls()), (1, 1));
    rig.keeper.prefetch(&web(1), Priority::Warmup);
    assert_eq!(rig.serial(web(1)).await, *serials.iter().next().expect("one"));
    assert_eq!(rig.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_at_half_of_their_life() {
    let rig = Rig::new(MANY);
    let first = rig.serial(web(1)).await;
    pass(3600 * 44 / 100).await;
    assert_eq!(rig.serial(web(1)).await, first);
    pass(3600 * 12 / 100).await;
    assert_ne!(rig.serial(web(1)).await, first);
    assert_eq!(rig.calls(), 2);
    rig.keeper.prefetch(&web(1), Priority::Warmup);
    pass(3600 * 24).await;
    assert!((40..60).contains(&rig.calls()), "{} requests in a day", rig.calls());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_any_more_is_not_renewed() {
    let rig = Rig::new(MANY);
    let first = rig.serial(web(1)).await;
    pass(3600 * 24).await;
    assert_eq!(rig.calls(), 1, "it was asked for once and had an answer");
    assert!(rig.keeper.dump().is_empty(), "and is gone");
    assert_ne!(rig.serial(web(1)).await, first, "who asks again begins anew");
    for _ in 0..48 {
        pass(1800).await;
        rig.serial(web(1)).await;
    }
    assert!((20..60).contains(&rig.calls()), "in use it is renewed: {} requests", rig.calls());
    rig.issuer.fails.store(true, Ordering::SeqCst);
    assert!(rig.keeper.certificate(&web(2)).await.is_err());
    pass(3600).await;
    let before = rig.calls();
    pass(3600).await;
    assert_eq!(rig.calls(), before, "a refused identity that nobody asks for is not asked for either");
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_what_is_valid_and_then_says_so() {
    let rig = Rig::new(MANY);
    rig.keeper.prefetch(&web(1), Priority::Warmup);
    let first = rig.serial(web(1)).await;
    rig.issuer.fails.store(true, Ordering::SeqCst);
    pass(3000).await;
    assert_eq!(rig.serial(web(1)).await, first, "still valid");
    assert!(rig.calls() > 5, "it keeps trying");
    let [held] = rig.keeper.dump().try_into().expect("one");
    assert!(held.certificate.is_some() && held.last_error.is_some());
    pass(700).await;
    let error = rig.keeper.certificate(&web(1)).await.expect_err("expired");
    assert!(matches!(error, KeeperError::Issue(_)), "{error}");
    rig.issuer.fails.store(false, Ordering::SeqCst);
    pass(200).await;
    assert_ne!(rig.serial(web(1)).await, first);
    let [held] = rig.keeper.dump().try_into().expect("one");
    assert!(held.last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_success_starts_over() {
    let rig = Rig::new(MANY);
    rig.issuer.fails.store(true, Ordering::SeqCst);
    rig.keeper.prefetch(&web(1), Priority::Warmup);
    assert!(rig.keeper.certificate(&web(1)).await.is_err());
    pass(3600).await;
    // 1, 2, 4 … 128, then every 150 s, each give or take a fifth.
    assert!((20..45).contains(&rig.calls()), "{} requests in an hour", rig.calls());
    rig.issuer.fails.store(false, Ordering::SeqCst);
    pass(200).await;
    rig.serial(web(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_knows_the_pod_a_moment_later_is_waited_for() {
    let rig = Rig::new(MANY);
    rig.issuer.fails.store(true, Ordering::SeqCst);
    assert!(rig.keeper.certificate(&web(1)).await.is_err());
    rig.issuer.fails.store(false, Ordering::SeqCst);
    rig.serial(web(1)).await;
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_ca_is_not_waited_for_for_ever() {
    let rig = Rig::new(0);
    assert!(matches!(rig.keeper.certificate(&web(1)).await, Err(KeeperError::Timeout(_))));
}

#[tokio::test(start_paused = true)]
async fn eight_at_once_and_the_urgent_first() {
    let rig = Rig::new(0);
    for number in 0..20 {
        rig.keeper.prefetch(&web(number), if number < 10 { Priority::Background } else { Priority::Warmup });
    }
    pass(1).await;
    assert_eq!(rig.calls(), 8);
    let nine = web(9);
    let urgent = rig.keeper.certificate(&nine);
    let answers = async {
        pass(1).await;
        rig.issuer.answers.add_permits(9);
    };
    let (urgent, ()) = tokio::join!(urgent, answers);
    urgent.expect("raised above those who wait longer");
    pass(1).await;
    let asked_for = rig.issuer.asked_for.lock().clone();
    assert_eq!(asked_for[8], web(9));
    assert!(asked_for[9..].iter().all(|next| (10..20).any(|number| web(number) == *next)), "{asked_for:?}");
    rig.issuer.answers.add_permits(MANY);
    pass(1).await;
    assert_eq!((rig.calls(), rig.issuer.at_once_max.load(Ordering::SeqCst)), (20, 8));
}

#[tokio::test(start_paused = true)]
async fn forgetting_works_also_while_pending() {
    let rig = Rig::new(0);
    let one = web(1);
    let waiting = rig.keeper.certificate(&one);
    let forgetting = async {
        pass(1).await;
        rig.keeper.forget(&web(1));
    };
    let (error, ()) = tokio::join!(waiting, forgetting);
    assert!(matches!(error, Err(KeeperError::Forgotten(_))));
    assert!(rig.keeper.dump().is_empty());
    rig.issuer.answers.add_permits(MANY);
    let first = rig.serial(web(1)).await;
    rig.keeper.forget(&web(1));
    assert_ne!(rig.serial(web(1)).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_comes_back_is_used_at_once() {
    let rig = Rig::new(MANY);
    rig.issuer.fails.store(true, Ordering::SeqCst);
    rig.keeper.prefetch(&web(1), Priority::Warmup);
    pass(3600).await;
    let before = rig.calls();
    let failures = join_all((0..100).map(|_| async { rig.keeper.certificate(&web(1)).await.is_err() })).await;
    assert!(failures.into_iter().all(|failed| failed));
    assert_eq!(rig.calls(), before + 1, "callers who wait together make one request");
    assert!(rig.keeper.certificate(&web(1)).await.is_err());
    assert_eq!(rig.calls(), before + 1, "and none so soon after");
    rig.issuer.fails.store(false, Ordering::SeqCst);
    pass(3).await;
    rig.serial(web(1)).await;
    assert_eq!(rig.calls(), before + 2);
}
