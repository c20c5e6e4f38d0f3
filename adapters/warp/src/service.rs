use std::{
    convert::Infallible,
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::BoxBody};
use sync_wrapper::SyncStream;
use tower_service::Service;
use warp::{Filter, Rejection, Reply, reply::Response};

use crate::{filters::Incoming, rejection};

type BoxError = Box<dyn Error + Send + Sync>;

/// Makes a tower service of filters, as [`warp::service`] does, in which this crate's filters work.
///
/// Put the layer around it. It takes any request body, axum's included, so that it can be served by
/// [`serve`](crate::serve()) or mounted in an axum router.
pub fn service<F>(
    filter: F,
) -> FilterService<
    impl Service<
        Request<BoxBody<Bytes, BoxError>>,
        Response = Response,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + Sync,
>
where
    F: Filter<Extract: Reply, Error = Rejection> + Clone + Send + Sync,
{
    FilterService { inner: warp::service(filter.recover(rejection::recover)) }
}

/// The service that [`service`] makes.
#[derive(Clone, Debug)]
pub struct FilterService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for FilterService<S>
where
    S: Service<Request<BoxBody<Bytes, BoxError>>>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let incoming = Incoming(Arc::new(parts.clone()));
        parts.extensions.insert(incoming);
        // warp wants bodies that are Sync, as axum's are not.
        let body = SyncStream::new(BodyStream::new(body.map_err(Into::into)));
        self.inner.call(Request::from_parts(parts, BoxBody::new(StreamBody::new(body))))
    }
}
