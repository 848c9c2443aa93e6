//! When a request has taken too long. Its time is the endpoint's and ours: while we wait for the client's bytes it stands
//! still, and begins anew after them.
//!
//! In: how long it may take, what its body's flow tells. Out: a future that ends then. Absent on purpose: what follows from
//! it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::body::{Fed, Flow};

/// The end of a request's time.
#[derive(Debug)]
pub struct Deadline {
    after: Duration,
    began: Instant,
    flow: Arc<Flow>,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// `after` the request whose body `flow` tells of has been received, or now, if it was.
    pub fn new(after: Duration, flow: &Arc<Flow>) -> Self {
        let began = Instant::now();
        Self { after, began, flow: flow.clone(), sleep: Box::pin(tokio::time::sleep(after)) }
    }

    /// When it is over, as far as can be said now.
    fn due(&self) -> Instant {
        let from = match self.flow.fed() {
            // No later than the wait's end can make it: it will be asked again.
            Fed::Waiting => Instant::now(),
            Fed::Since(waited) => waited.map_or(self.began, |waited| waited.max(self.began)),
        };
        from + self.after
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            let due = self.due();
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}

/// The end of a stream on which nothing passes.
#[derive(Debug)]
pub struct Idle {
    after: Duration,
    flow: Arc<Flow>,
    received: u64,
    last: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Idle {
    /// Once nothing has passed for `after` in either direction.
    pub fn new(after: Duration, flow: &Arc<Flow>) -> Self {
        let sleep = Box::pin(tokio::time::sleep(after));
        Self { after, flow: flow.clone(), received: flow.bytes(), last: Instant::now(), sleep }
    }

    /// Something of the answer passes.
    pub fn touch(&mut self) {
        self.last = Instant::now();
    }
}

impl Future for Idle {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            let received = self.flow.bytes();
            if received != self.received {
                (self.received, self.last) = (received, Instant::now());
            }
            let due = self.last + self.after;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}

/// The end of a request that takes too long to arrive.
#[derive(Debug)]
pub struct Arriving {
    flow: Arc<Flow>,
    sleep: Pin<Box<Sleep>>,
}

impl Arriving {
    /// Unless it has come whole by then.
    pub fn new(by: Instant, flow: &Arc<Flow>) -> Self {
        Self { flow: flow.clone(), sleep: Box::pin(tokio::time::sleep_until(by)) }
    }
}

impl Future for Arriving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.sleep.as_mut().poll(context));
        // What has come whole cannot be late any more: nobody needs to be woken.
        if self.flow.has_ended() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// What limits a request in time.
#[derive(Debug)]
pub struct Limits {
    /// Of the request's own coming, until an answer begins.
    pub arriving: Option<Arriving>,
    /// Of the whole request.
    pub deadline: Option<Deadline>,
    /// Of its silence.
    pub idle: Option<Idle>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The request took too long to arrive.
    Arrival,
    /// The whole request took too long.
    Time,
    /// Nothing passed for too long.
    Idle,
}

impl Limits {
    /// None, where there are neither.
    pub fn new(
        whole: Option<Duration>,
        idle: Option<Duration>,
        (arrived_by, flow): (Option<Instant>, &Arc<Flow>),
    ) -> Option<Box<Self>> {
        if whole.is_none() && idle.is_none() && arrived_by.is_none() {
            return None;
        }
        Some(Box::new(Self {
            arriving: arrived_by.map(|by| Arriving::new(by, flow)),
            deadline: whole.map(|after| Deadline::new(after, flow)),
            idle: idle.map(|after| Idle::new(after, flow)),
        }))
    }

    /// How long nothing may pass.
    pub fn silence(&self) -> Option<Duration> {
        self.idle.as_ref().map(|idle| idle.after)
    }

    /// Something of the answer passes.
    pub fn touch(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.touch();
        }
    }

    /// Ready once a limit is reached.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        if self.arriving.as_mut().is_some_and(|arriving| Pin::new(arriving).poll(context).is_ready()) {
            return Poll::Ready(Over::Arrival);
        }
        if self.deadline.as_mut().is_some_and(|deadline| Pin::new(deadline).poll(context).is_ready()) {
            return Poll::Ready(Over::Time);
        }
        if self.idle.as_mut().is_some_and(|idle| Pin::new(idle).poll(context).is_ready()) {
            return Poll::Ready(Over::Idle);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(flow: &Flow) {
        let context = Context::from_waker(std::task::Waker::noop());
        assert!(flow.waits(&context).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn a_requests_time_runs_from_its_end() {
        let flow = Arc::<Flow>::default();
        let began = Instant::now();
        let mut deadline = Deadline::new(SECOND, &flow);
        let client = async {
            for _ in 0..5 {
                waits(&flow);
                tokio::time::sleep(SECOND * 3 / 10).await;
                flow.came(1);
            }
            flow.ends();
        };
        tokio::join!(client, &mut deadline);
        assert_eq!(began.elapsed(), SECOND * 25 / 10, "the client took 1.5 s");
        // An endpoint that does not take what has come is no wait for the client.
        let began = Instant::now();
        Deadline::new(SECOND, &Arc::default()).await;
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_be_late_only_while_it_comes() {
        let flow = Arc::<Flow>::default();
        let began = Instant::now();
        flow.came(1);
        Arriving::new(began + SECOND, &flow).await;
        assert_eq!(began.elapsed(), SECOND);
        flow.ends();
        let arrived = Arriving::new(Instant::now() + SECOND, &flow);
        assert!(tokio::time::timeout(SECOND * 5, arrived).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_idle_when_nothing_passes_either_way() {
        let flow = Arc::<Flow>::default();
        let began = Instant::now();
        let mut idle = Box::pin(Idle::new(SECOND, &flow));
        for _ in 0..3 {
            assert!(tokio::time::timeout(SECOND * 9 / 10, &mut idle).await.is_err());
            idle.touch();
        }
        flow.came(1);
        idle.await;
        assert!(began.elapsed() >= SECOND * 37 / 10, "{:?}", began.elapsed());
    }
}
