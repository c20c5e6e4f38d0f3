//! Traces, as a collector of OpenTelemetry gets them.

use axum::{Router, body::Body, response::Response, routing::any};
use http::Request;
use opentelemetry::{propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use session_resume::{LiveSession, SessionResume};
use session_resume_axum::ResumeUpgrade;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tower_http::trace::TraceLayer;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// One message, and the session is over.
async fn live(mut session: LiveSession) {
    if session.recv().await.is_some() {
        tracing::info_span!("work").in_scope(|| ());
    }
}

async fn upgrade(upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(live)
}

/// A request's span, in the trace that the request's `traceparent` names.
fn request_span(request: &Request<Body>) -> Span {
    let span = tracing::info_span!("request");
    let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(traceparent) = traceparent {
        let carrier =
            std::collections::HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
    span
}

#[tokio::test]
async fn a_session_s_span_is_linked_to_the_trace_of_its_upgrade() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(traces));

    let app = Router::new()
        .route("/live", any(upgrade))
        .layer(SessionResume::new())
        .layer(TraceLayer::new_for_http().make_span_with(request_span));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request =
        format!("ws://{}/live", listener.local_addr().unwrap()).into_client_request().unwrap();
    request
        .headers_mut()
        .insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    futures_util::SinkExt::send(&mut socket, "go".into()).await.unwrap();

    let ended = |name: &str| {
        let spans = exporter.get_finished_spans().unwrap();
        spans.into_iter().find(|span| span.name == name)
    };
    let mut spans = Vec::<SpanData>::new();
    for name in ["request", "work", "session"] {
        session_resume_testkit::until("a span has ended", async || ended(name).is_some()).await;
        spans.extend(ended(name));
    }
    let [request, work, session] = &spans[..] else { unreachable!() };
    assert_eq!(request.span_context.trace_id().to_string(), TRACE);
    assert_ne!(
        session.span_context.trace_id(),
        request.span_context.trace_id(),
        "a trace of its own"
    );
    let links: Vec<_> = session.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(links, [request.span_context.span_id()]);
    assert_eq!(
        work.parent_span_id,
        session.span_context.span_id(),
        "what a handler does is in its session's trace"
    );
}
