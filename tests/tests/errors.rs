//! What an HTTP handler calls fails with errors that `?` takes into `anyhow::Error` and `Box<dyn Error + Send + Sync>`.

use std::{error::Error, net::Ipv4Addr};

use axum::{
    body::Body,
    http::{Request, request::Parts},
};
use session_resume::{
    AllowedOrigins, Identity, IdentityCookie, SendErrorKind, Session, SessionId, SessionResume,
    adapter,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Writes each handler once for each error type.
macro_rules! handlers {
    ($($module:ident: $error:ty;)*) => {$(
        mod $module {
            use super::*;

            pub(crate) async fn sends(session: &Session<u32>) -> Result<(), $error> {
                session.send("text").await?;
                session.try_send("text")?;
                session.send_json(&[1, 2]).await?;
                session.send_checkpoint("all").await?;
                session
                    .send_with(|n| {
                        *n += 1;
                        n.to_string()
                    })
                    .await?;
                session.saved().await?;
                session.close_with(4000, "enough")?;
                Ok(())
            }

            pub(crate) async fn finds(parts: &Parts) -> Result<Identity, $error> {
                adapter::look::<u32>(parts).await?;
                adapter::list::<u32>(parts).await?;
                adapter::poll::<u32>(parts, "unknown").await?;
                adapter::open::<u32>(parts).await?;
                Ok(adapter::identity(parts)?)
            }

            pub(crate) async fn sets_up() -> Result<SessionId, $error> {
                adapter::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                drop(adapter::stop_signal()?);
                AllowedOrigins::same_origin().try_allow("https://example.com")?;
                IdentityCookie::new("sid").validate()?;
                Ok("6f9619ff-8b86-4d01-b42d-00cf4fc964ff".parse()?)
            }
        }
    )*};
}

handlers! {
    to_anyhow: anyhow::Error;
    boxed: BoxError;
}

async fn parts(resume: &SessionResume<u32>) -> Parts {
    use tower_layer::Layer as _;
    use tower_service::Service;

    let (seen, parts) = std::sync::mpsc::channel();
    let mut service = resume.layer(axum::routing::any(move |parts: Parts| async move {
        seen.send(parts).unwrap();
    }));
    let request = Request::get("/").body(Body::empty()).unwrap();
    Service::<Request<Body>>::call(&mut service, request).await.unwrap();
    parts.recv().unwrap()
}

#[tokio::test]
async fn all_that_an_http_handler_calls_can_be_passed_up() {
    to_anyhow::sets_up().await.unwrap();
    boxed::sets_up().await.unwrap();

    let resume = SessionResume::new().with_memory_state(|_| 0_u32);
    let parts = parts(&resume).await;
    to_anyhow::finds(&parts).await.unwrap();
    boxed::finds(&parts).await.unwrap();

    let session = adapter::open::<u32>(&parts).await.unwrap();
    to_anyhow::sends(&session).await.unwrap();
    let error = to_anyhow::sends(&session).await.unwrap_err();
    let error = error.downcast::<session_resume::SendError>().unwrap();
    assert_eq!((error.kind(), error.into_message()), (SendErrorKind::Ended, Some("text".into())));
    let error = boxed::sends(&session).await.unwrap_err();
    assert_eq!(error.to_string(), "the session has ended");
}
