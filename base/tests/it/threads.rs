//! Threads, mailboxes and waiting as the machine does them.

use std::{
    future::{pending, ready},
    sync::mpsc::{RecvTimeoutError, TrySendError},
    time::Duration,
};

use chordae_base::seams::Threads;

const MOMENT: Duration = Duration::from_millis(5);

#[test]
fn a_thread_gives_what_it_made_and_a_panic_is_an_error() {
    let threads = Threads::of_the_machine();
    assert_eq!(threads.spawn("seven", || 7).unwrap().join(), Ok(7));
    let broken = threads.spawn("broken", || panic!("on purpose")).unwrap();
    assert!(broken.join().unwrap_err().why.contains("panicked"));
}

#[test]
fn a_mailbox_is_bounded_and_knows_when_nobody_is_there() {
    let threads = Threads::of_the_machine();
    let (mailbox, mail) = threads.mailbox(1);
    mailbox.send(1).unwrap();
    assert!(matches!(mailbox.try_send(2), Err(TrySendError::Full(2))));
    assert_eq!(mail.recv_timeout(MOMENT), Ok(1));
    assert_eq!(mail.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    let other = mailbox.clone();
    drop(mailbox);
    other.send(3).unwrap();
    drop(other);
    assert_eq!(mail.iter().collect::<Vec<i32>>(), [3]);
    let (mailbox, mail) = threads.mailbox(1);
    drop(mail);
    assert!(mailbox.send(4).is_err());
}

#[test]
fn a_future_is_waited_for_and_not_longer_than_said() {
    let threads = Threads::of_the_machine();
    assert_eq!(threads.wait(ready(5)), 5);
    assert_eq!(threads.wait_for(MOMENT, pending::<()>()), None);
    // Woken from another thread, long before the time is up.
    let (reply, answer) = threads.mailbox(1);
    let asked = threads.clone();
    let waits = threads
        .spawn("waits", move || {
            let gate = Gate::default();
            reply.send(gate.clone()).unwrap();
            asked.wait_for(Duration::from_secs(60), gate)
        })
        .unwrap();
    answer.recv().unwrap().open();
    assert_eq!(waits.join(), Ok(Some(())));
}

/// Ready once it is opened.
#[derive(Clone, Default)]
struct Gate(std::sync::Arc<std::sync::Mutex<(bool, Option<std::task::Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut inside = self.0.lock().unwrap();
        inside.0 = true;
        if let Some(waker) = inside.1.take() {
            waker.wake();
        }
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        let mut inside = self.0.lock().unwrap();
        inside.1 = Some(cx.waker().clone());
        match inside.0 {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    }
}
