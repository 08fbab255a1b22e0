//! One HTTP/1.1 connection, driven by whoever waits for something from it.
//!
//! Always: a request that comes back as `Unsent` was not looked at by the upstream, because hyper returns only
//! requests that it never began to write.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};

use super::connect::Stream;
use super::failure::HttpFailure;

/// Largest head of an answer.
const HEAD: usize = 64 * 1024;

/// What one connection reads ahead at most. hyper would go up to 400 KiB and more, and keep it for as long as the
/// connection lives: idle connections would hold more than the largest answers do.
const READ_AHEAD: usize = HEAD;

/// hyper's side of the connection: it makes progress only while it is polled.
type Driver = Pin<Box<http1::Connection<Stream, Full<Bytes>>>>;

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
}

pub(super) enum SendFault {
    /// No byte was written; the request as it was.
    Unsent(Box<Request<Full<Bytes>>>),
    Failed(HttpFailure),
}

impl Connection {
    pub(super) async fn over(stream: Stream) -> Result<Self, HttpFailure> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEAD).max_buf_size(READ_AHEAD);
        let handshake = builder.handshake(stream).await;
        let (sender, driver) = handshake.map_err(|error| HttpFailure::connect(&error))?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)) })
    }

    /// Sends one request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFault> {
        let Connection { sender, driver } = self;
        let mut answer = pin!(sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            // All progress is the driver's, so the answer is asked for after it.
            drive(driver, cx);
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut fault| match fault.take_message() {
            Some(unsent) => SendFault::Unsent(Box::new(unsent)),
            None => SendFault::Failed(HttpFailure::exchange(&fault.into_error())),
        })
    }

    /// The next data of an answer's body; trailers are passed over.
    pub(super) fn poll_data(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, HttpFailure>>> {
        let mut driven = false;
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => continue,
                },
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(HttpFailure::exchange(&error))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    drive(&mut self.driver, cx);
                    driven = true;
                }
            }
        }
    }

    /// Whether it can take a request now. Nobody is woken for it afterwards, and a task that used it before is let go.
    pub(super) fn is_idle(&mut self) -> bool {
        let driver = &mut self.driver;
        // Outside the task's budget: with none left, the end of the connection would go unseen.
        let poll = poll_fn(|_| {
            drive(driver, &mut Context::from_waker(Waker::noop()));
            Poll::Ready(())
        });
        let polled = pin!(tokio::task::coop::unconstrained(poll));
        let _ = polled.poll(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    // How it ended is told to the waiting request or body.
    if let Some(connection) = driver
        && connection.as_mut().poll(cx).is_ready()
    {
        *driver = None;
    }
}
