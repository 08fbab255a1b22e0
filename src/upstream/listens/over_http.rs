//! A listen stream over HTTP: one POST whose answer does not end.

use tokio::time::Instant;

use super::run::{Telling, over};
use super::state::{Ending, Filter};
use super::{ACKNOWLEDGED_WITHIN, StandingListen, written};
use crate::protocol::code::METHOD_NOT_FOUND;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Frame, RequestId};
use crate::upstream::encode::own_meta;
use crate::upstream::era_check::doubts_stateless;
use crate::upstream::error::UpstreamError;
use crate::upstream::http::{EventReader, HttpFailure};
use crate::upstream::stateless::{Answered, Opened, StatelessHttp};

/// Opens the stream and takes what it brings, to its end.
pub(super) async fn listen(
    listen: &StandingListen,
    telling: &Telling,
    stream: u64,
    filter: &Filter,
    stateless: &StatelessHttp,
    revision: Revision,
) -> Ending {
    let began = Instant::now();
    let params = format!(r#"{{"_meta":{},"notifications":{}}}"#, own_meta(revision), written(filter));
    let opening = stateless.open_stream("subscriptions/listen", &params, revision);
    let opened = tokio::time::timeout(ACKNOWLEDGED_WITHIN, opening).await;
    let ending = match opened {
        Ok(Ok(Opened::Events { id, mut reader })) => {
            let taking = Taking { listen, telling, stream, stateless, id };
            taking.to_its_end(&mut reader, began).await
        }
        Ok(Ok(Opened::Answered(answered))) => refused(listen, telling, Ok(answered), began),
        Ok(Err(error)) => refused(listen, telling, Err(error), began),
        Err(_) => failed(telling, &UpstreamError::Timeout(ACKNOWLEDGED_WITHIN), began),
    };
    match ending {
        // One that never stood did not last, however long that took.
        Ending::Over(_) if !listen.stands(stream) => Ending::Over(std::time::Duration::ZERO),
        ending => ending,
    }
}

/// There is no stream.
fn refused(
    listen: &StandingListen,
    telling: &Telling,
    answered: Result<Answered, UpstreamError>,
    began: Instant,
) -> Ending {
    if doubts_stateless(&answered) && listen.may_doubt() {
        telling.doubt_era();
    }
    match answered {
        Ok(answered) => ending_of(&answered.answer, began),
        Err(error) => failed(telling, &error, began),
    }
}

fn failed(telling: &Telling, error: &UpstreamError, began: Instant) -> Ending {
    tracing::debug!(upstream = %telling.upstream, %error, "a listen stream was not opened");
    over(began)
}

struct Taking<'a> {
    listen: &'a StandingListen,
    telling: &'a Telling,
    stream: u64,
    stateless: &'a StatelessHttp,
    id: u64,
}

impl Taking<'_> {
    async fn to_its_end(&self, reader: &mut EventReader, began: Instant) -> Ending {
        let mut awaits_acknowledgement = true;
        loop {
            let next = match awaits_acknowledgement {
                true => tokio::time::timeout_at(began + ACKNOWLEDGED_WITHIN, reader.next()).await,
                false => Ok(reader.next().await),
            };
            match next {
                Ok(Some(Ok(event))) if event.data.is_empty() => {}
                Ok(Some(Ok(event))) => match Frame::parse(event.data, self.stateless.json_limits()) {
                    Ok(frame) => {
                        if let Some(ending) = self.take(frame, began) {
                            return ending;
                        }
                    }
                    Err(fault) => tracing::debug!(%fault, "skipped what is not a message"),
                },
                Ok(Some(Err(HttpFailure::EventTooLarge { .. }))) => {}
                Ok(Some(Err(_)) | None) | Err(_) => return over(began),
            }
            awaits_acknowledgement = awaits_acknowledgement && !self.listen.stands(self.stream);
        }
    }

    fn take(&self, frame: Frame, began: Instant) -> Option<Ending> {
        match frame {
            Frame::Notification(notification) => {
                self.telling.tell(self.listen.hear(self.stream, notification));
                None
            }
            Frame::Response(response) => match response.id.as_ref().and_then(RequestId::as_number) {
                Some(number) if number != self.id => None,
                _ => Some(ending_of(&response.answer, began)),
            },
            Frame::Request(_) => None,
        }
    }
}

/// What the answer to a listen request means: it comes when the stream is over, or is refused.
pub(super) fn ending_of(answer: &Answer, began: Instant) -> Ending {
    match answer {
        Answer::Result(_) => over(began),
        Answer::Error(error) if error.code == METHOD_NOT_FOUND => Ending::Unknown,
        Answer::Error(_) => Ending::Refused,
    }
}
