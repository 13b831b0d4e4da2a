//! What registries can try, on the built binary: wrong bytes, answers without end, redirects to others, challenges that
//! never end, and artifacts that are no component. Each is refused with what was found, nothing is added, and what the
//! registry was shown goes nowhere else.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use e2e::registry::scene::{added, basic, run, sign_in};
use e2e::registry::{Artifact, Asked, PASSWORD, Scripted, digest_of};
use e2e::troupe::{Workplace, guest, step};
use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;
use troupe_providers::{
    HttpClient, HttpSettings, Registry, RegistryError, RegistryLimits, RegistryReference,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const ASKS_FOR_BASIC: &str = "Basic realm=\"tests\"";

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

fn json_manifest(body: impl Into<Body>) -> Response {
    answer(200, &[("content-type", MANIFEST)], body)
}

fn sent_on(target: &str) -> Response {
    answer(307, &[("location", target)], "")
}

fn endless() -> Body {
    let piece = || Ok::<_, Infallible>(Bytes::from(vec![b' '; 16 << 10]));
    Body::from_stream(stream::repeat_with(piece))
}

/// A registry that has an artifact as `name`, but for what `instead` answers.
async fn registry(
    artifact: &Artifact,
    instead: impl Fn(&Asked) -> Option<Response> + Send + Sync + 'static,
) -> Scripted {
    let artifact = artifact.clone();
    Scripted::start(move |asked| {
        if let Some(response) = instead(asked) {
            return response;
        }
        if asked.target.starts_with("/v2/name/manifests/") {
            return json_manifest(artifact.manifest());
        }
        let digest = asked.target.strip_prefix("/v2/name/blobs/");
        let blob = artifact
            .blobs()
            .find(|blob| digest == Some(&digest_of(blob)));
        match blob {
            Some(blob) => answer(200, &[], blob.to_vec()),
            None => answer(404, &[], ""),
        }
    })
    .await
}

fn toolbox() -> Artifact {
    Artifact::wasm(&guest("toolbox"))
}

fn is_blob(asked: &Asked) -> bool {
    asked.target.contains("/blobs/")
}

fn reference(registry: &Scripted) -> String {
    format!("oci://{}/name:1", registry.host())
}

/// What a reference names is neither shown nor run, and the text says why; nothing is added.
async fn assert_refused(place: &Workplace, reference: &str, said: &str) {
    let inspected = place.troupe(["agent", "inspect", reference]).end().await;
    let inspected = inspected.expect_code(2);
    let ran = run(place, reference).await.expect_code(2);
    for ended in [inspected, ran] {
        assert!(ended.stderr.contains(said), "{said}: {ended}");
        for secret in [PASSWORD, &basic(PASSWORD)] {
            assert!(!ended.stderr.contains(secret), "{ended}");
        }
    }
    assert_eq!(added(place), [""; 0]);
}

async fn assert_registry_refused(registry: &Scripted, said: &str) {
    assert_refused(&Workplace::new(), &reference(registry), said).await;
}

#[tokio::test]
async fn other_bytes_than_were_asked_for_are_not_taken() {
    let server = registry(&toolbox(), |_| None).await;
    let other = format!("{}@{}", reference(&server), digest_of(b"another"));
    let said = format!(
        "sent another manifest than the one that was asked for: its digest is {}, not {}",
        digest_of(&toolbox().manifest()),
        digest_of(b"another")
    );
    assert_refused(&Workplace::new(), &other, &said).await;

    let mut changed = guest("toolbox");
    *changed.last_mut().unwrap() ^= 1;
    let said = format!(
        "sent another component than the one that was asked for: its digest is {}, not {}",
        digest_of(&changed),
        digest_of(&guest("toolbox"))
    );
    let server = registry(&toolbox(), move |asked| {
        is_blob(asked).then(|| answer(200, &[], changed.clone()))
    })
    .await;
    assert_registry_refused(&server, &said).await;

    // Whole for HTTP, and shorter than it is.
    let server = registry(&toolbox(), |asked| {
        is_blob(asked).then(|| answer(200, &[], guest("toolbox")[..1000].to_vec()))
    })
    .await;
    assert_registry_refused(&server, "sent another component").await;
}

#[tokio::test]
async fn answers_without_end_are_cut() {
    let server = registry(&toolbox(), |_| Some(json_manifest(endless()))).await;
    let said = "sends more than the 4194304 bytes that the manifest may have";
    assert_registry_refused(&server, said).await;
    let large = |_: &Asked| {
        Some(answer(
            200,
            &[("content-length", "1099511627776")],
            endless(),
        ))
    };
    assert_registry_refused(&registry(&toolbox(), large).await, said).await;

    let bytes = guest("toolbox").len();
    let server = registry(&toolbox(), |asked| {
        is_blob(asked).then(|| answer(200, &[], endless()))
    })
    .await;
    let said = format!("sends more than the {bytes} bytes that the component may have");
    assert_registry_refused(&server, &said).await;

    // As large as it likes, by its manifest.
    let manifest = String::from_utf8(toolbox().manifest()).unwrap();
    let huge = manifest.replace(&format!("\"size\":{bytes}"), "\"size\":1099511627776");
    assert_ne!(huge, manifest);
    let server = registry(&toolbox(), move |asked| {
        (!is_blob(asked)).then(|| json_manifest(huge.clone()))
    })
    .await;
    let said = "it has 1099511627776 bytes; a component has at most 67108864";
    assert_registry_refused(&server, said).await;
    assert!(
        !server.asked().iter().any(is_blob),
        "it was not even asked for"
    );

    // An error page, and a token.
    let server = registry(&toolbox(), |_| Some(answer(500, &[], endless()))).await;
    assert_registry_refused(
        &server,
        "answered 500 where the manifest was asked for; try again later",
    )
    .await;
    let server = with_tokens(|_| answer(200, &[], endless()), None).await;
    assert_registry_refused(
        &server,
        "sends more than the 262144 bytes that the token may have",
    )
    .await;
}

#[tokio::test]
async fn a_broken_connection_adds_nothing() {
    let server = registry(&toolbox(), |asked| {
        let wasm = guest("toolbox");
        let length = wasm.len().to_string();
        let half = Bytes::from(wasm).slice(..1000);
        let body = Body::from_stream(stream::iter([Ok::<_, Infallible>(half)]));
        is_blob(asked).then(|| answer(200, &[("content-length", &length)], body))
    })
    .await;
    assert_registry_refused(&server, "broke before the component was there").await;
}

#[tokio::test]
async fn what_a_registry_is_shown_goes_to_no_other_host() {
    let elsewhere = registry(&toolbox(), |_| None).await;
    let target = format!(
        "http://{}/v2/name/blobs/{}",
        elsewhere.host(),
        digest_of(&guest("toolbox"))
    );
    let server = registry(&toolbox(), move |asked| {
        if asked.authorization.is_empty() {
            return Some(answer(401, &[("www-authenticate", ASKS_FOR_BASIC)], ""));
        }
        is_blob(asked).then(|| sent_on(&target))
    })
    .await;
    let mut place = Workplace::new();
    sign_in(&mut place, server.host(), PASSWORD);
    let ended = run(&place, &reference(&server)).await.expect_code(0);
    assert_eq!(step(&ended.json(), "third")["output"], 14, "{ended}");
    let shown: Vec<String> = server
        .asked()
        .into_iter()
        .map(|asked| asked.authorization)
        .collect();
    let own = format!("Basic {}", basic(PASSWORD));
    assert_eq!(shown, [String::new(), own.clone(), own]);
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, "");

    // The other one asks for it: it is not answered, also where it has a password here.
    let wants = registry(&toolbox(), |_| {
        Some(answer(401, &[("www-authenticate", ASKS_FOR_BASIC)], ""))
    })
    .await;
    let target = format!("http://{}/v2/name/manifests/1", wants.host());
    let server = registry(&toolbox(), move |_| Some(sent_on(&target))).await;
    let mut place = Workplace::new();
    sign_in(&mut place, wants.host(), PASSWORD);
    assert_refused(
        &place,
        &reference(&server),
        "answered 401 where the manifest was asked for",
    )
    .await;
    assert!(
        wants
            .asked()
            .iter()
            .all(|asked| asked.authorization.is_empty())
    );
    assert_eq!(wants.asked().len(), 2, "one for each command");
}

#[tokio::test]
async fn redirects_end_and_keep_to_what_is_safe() {
    let server = registry(&toolbox(), |asked| Some(sent_on(&asked.target))).await;
    assert_registry_refused(&server, "which is not followed: it does so again and again").await;
    assert_eq!(server.asked().len(), 12, "six for each command");
    for (target, reason) in [
        ("http://192.0.2.1/blob", "it is not reached by TLS"),
        ("file:///etc/passwd", "it is neither http nor https"),
        ("http://ann:secret@127.0.0.1/", "it holds a user"),
    ] {
        let server = registry(&toolbox(), move |asked| {
            is_blob(asked).then(|| sent_on(target))
        })
        .await;
        let said = format!("sends on to {target}, which is not followed: {reason}");
        assert_registry_refused(&server, &said).await;
    }
}

/// A registry that asks for a token until it has one; a service on itself or elsewhere gives it.
async fn with_tokens(
    token: impl Fn(&Asked) -> Response + Send + Sync + 'static,
    service: Option<String>,
) -> Scripted {
    let own = Arc::new(OnceLock::<String>::new());
    let host = Arc::clone(&own);
    let server = registry(&toolbox(), move |asked| {
        if asked.target.starts_with("/token") {
            return Some(token(asked));
        }
        if asked.authorization == "Bearer token-77a1" {
            return None;
        }
        let service = service.as_ref().or(host.get()).unwrap();
        let challenge = format!(
            "Bearer realm=\"http://{service}/token\",service=\"tests\",scope=\"repository:other:pull,push\""
        );
        Some(answer(401, &[("www-authenticate", &challenge)], ""))
    })
    .await;
    own.set(server.host().to_owned()).unwrap();
    server
}

fn token() -> Response {
    answer(200, &[], json!({ "token": "token-77a1" }).to_string())
}

#[tokio::test]
async fn tokens_are_asked_for_once_and_for_this_repository_alone() {
    // As anybody.
    let server = with_tokens(|_| token(), None).await;
    let ended = run(&Workplace::new(), &reference(&server)).await;
    drop(ended.expect_code(0));
    let asked: Vec<(String, String)> = server
        .asked()
        .into_iter()
        .map(|asked| {
            (
                asked.target.split('@').next().unwrap().to_owned(),
                asked.authorization,
            )
        })
        .collect();
    let blob = format!("/v2/name/blobs/{}", digest_of(&guest("toolbox")));
    let (manifest, bearer) = ("/v2/name/manifests/1", "Bearer token-77a1");
    let wish = "/token?scope=repository%3Aname%3Apull&service=tests";
    let expected = [
        (manifest, ""),
        (wish, ""),
        (manifest, bearer),
        (&blob, bearer),
    ];
    assert_eq!(
        asked,
        expected.map(|(target, shown)| (target.to_owned(), shown.to_owned()))
    );

    // With a password, at a service of another name: it is shown to the service, and the token to the registry.
    let service = Scripted::start(|_| token()).await;
    let server = with_tokens(|_| answer(404, &[], ""), Some(service.host().to_owned())).await;
    let mut place = Workplace::new();
    sign_in(&mut place, server.host(), PASSWORD);
    drop(run(&place, &reference(&server)).await.expect_code(0));
    let asked = service.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, format!("Basic {}", basic(PASSWORD)));
    let basics = server
        .asked()
        .into_iter()
        .filter(|asked| asked.authorization.starts_with("Basic"));
    assert_eq!(basics.count(), 0);

    // With what some registries give in a password's place.
    let service = Scripted::start(|_| token()).await;
    let server = with_tokens(|_| answer(404, &[], ""), Some(service.host().to_owned())).await;
    let config = json!({ "auths": { server.host(): { "identitytoken": PASSWORD } } });
    place.write("docker/config.json", config.to_string());
    let place = place;
    drop(run(&place, &reference(&server)).await.expect_code(0));
    let asked = &service.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.authorization.as_str()),
        ("POST", "")
    );
    assert_eq!(
        asked.body,
        format!(
            "scope=repository%3Aname%3Apull&service=tests&grant_type=refresh_token&client_id=troupe&refresh_token={PASSWORD}"
        )
    );
}

#[tokio::test]
async fn challenges_end() {
    let server = registry(&toolbox(), |_| {
        Some(answer(401, &[("www-authenticate", ASKS_FOR_BASIC)], ""))
    })
    .await;
    let mut place = Workplace::new();
    sign_in(&mut place, server.host(), PASSWORD);
    let said = "answered 401 where the manifest was asked for; sign in to the registry with `docker login`";
    assert_refused(&place, &reference(&server), said).await;
    assert_eq!(server.asked().len(), 4, "two for each command");

    // A token that opens nothing, and then none.
    let server = with_tokens(
        |_| answer(200, &[], json!({ "token": "other" }).to_string()),
        None,
    )
    .await;
    assert_registry_refused(&server, said).await;
    assert_eq!(server.asked().len(), 6, "three for each command");
    let server = with_tokens(
        |_| {
            answer(
                401,
                &[],
                json!({ "details": format!("{PASSWORD} is wrong") }).to_string(),
            )
        },
        None,
    )
    .await;
    sign_in(&mut place, server.host(), PASSWORD);
    let said = "answered 401 where the token was asked for: [redacted] is wrong; sign in";
    assert_refused(&place, &reference(&server), said).await;
    let server = with_tokens(|_| sent_on("http://127.0.0.1:9/token"), None).await;
    assert_registry_refused(&server, "answered 307 where the token was asked for").await;
    let server = with_tokens(|_| answer(200, &[], "{}"), None).await;
    assert_registry_refused(&server, "the answer of what gives tokens holds none").await;

    for (challenge, said) in [
        (
            "Digest realm=\"x\"",
            "asks for credentials: it takes Digest; only Basic and Bearer are known",
        ),
        (
            "Bearer realm=\"http://auth.example.com/token\"",
            "asks for credentials: it names http://auth.example.com/token as what gives tokens, and nothing is shown to who is not reached by TLS",
        ),
    ] {
        let server = registry(&toolbox(), move |_| {
            Some(answer(401, &[("www-authenticate", challenge)], ""))
        })
        .await;
        sign_in(&mut place, server.host(), PASSWORD);
        assert_refused(&place, &reference(&server), said).await;
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_with_what_it_is() {
    let changed = |change: &dyn Fn(&mut Artifact)| {
        let mut artifact = toolbox();
        change(&mut artifact);
        artifact
    };
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    for (artifact, said) in [
        (
            changed(&|a| a.layers.push(("text/plain".to_owned(), vec![1]))),
            "it has 2 layers (`application/wasm`, `text/plain`), and not one of `application/wasm`",
        ),
        (
            changed(&|a| a.layers[0].0 = gzip.to_owned()),
            "its layer is `application/vnd.oci.image.layer.v1.tar+gzip`, not `application/wasm`",
        ),
        (
            changed(&|a| a.config = "application/vnd.oci.image.config.v1+json".to_owned()),
            "its configuration is `application/vnd.oci.image.config.v1+json`, not `application/vnd.wasm.config.v0+json`",
        ),
    ] {
        let server = registry(&artifact, |_| None).await;
        assert_registry_refused(&server, said).await;
        assert!(
            !server.asked().iter().any(is_blob),
            "it was not even asked for"
        );
    }
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
    let server = registry(&toolbox(), move |_| {
        Some(answer(200, &[], index.to_string()))
    })
    .await;
    assert_registry_refused(&server, "it is an index of manifests (`application/vnd.oci.image.index.v1+json`); name one of them by its digest").await;
    let server = registry(&toolbox(), |_| {
        Some(answer(200, &[("content-type", "text/html")], "<html>"))
    })
    .await;
    assert_registry_refused(&server, "its manifest is no JSON of one").await;

    // Layers that say they are components.
    let core = wat::parse_str("(module)").unwrap();
    for (bytes, said) in [
        (
            native_code().await,
            "this is compiled native code (.cwasm), which is never loaded",
        ),
        (core, "this is a core WebAssembly module, not a component"),
        (
            b"\x1f\x8b\x08\0gzip".to_vec(),
            "not a WebAssembly component",
        ),
    ] {
        let server = registry(&Artifact::wasm(&bytes), |_| None).await;
        let (place, reference) = (Workplace::new(), reference(&server));
        let inspected = place.troupe(["agent", "inspect", &reference]).end().await;
        let inspected = inspected.expect_code(1);
        assert!(inspected.stdout.contains(said), "{said}: {inspected}");
        let ran = run(&place, &reference).await.expect_code(2);
        assert!(ran.stderr.contains(said), "{said}: {ran}");
        assert_eq!(added(&place), [""; 0]);
    }
}

/// What Troupe itself compiled.
async fn native_code() -> Vec<u8> {
    let mut place = Workplace::new();
    let cache = place.path("cache");
    place.set("TROUPE_CACHE", &cache.to_string_lossy());
    place.write("echo.wasm", guest("echo"));
    drop(
        place
            .troupe(["component", "compile", "echo.wasm"])
            .end()
            .await
            .expect_code(0),
    );
    let mut folders = vec![cache];
    let mut largest = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(path).unwrap();
                if bytes.len() > largest.len() {
                    largest = bytes;
                }
            }
        }
    }
    assert!(largest.starts_with(b"\x7fELF"), "it is compiled");
    largest
}

#[tokio::test]
async fn refusals_are_shown_in_one_line() {
    let error = json!({ "errors": [{ "code": "NAME_UNKNOWN", "message": "no\u{1b}[31m such\nname" }, { "code": "SECOND" }] });
    let server = registry(&toolbox(), move |_| {
        Some(answer(404, &[], error.to_string()))
    })
    .await;
    assert_registry_refused(&server, "answered 404 where the manifest was asked for: NAME_UNKNOWN: no [31m such name; check the name, the tag and the digest").await;
    let server = registry(&toolbox(), |_| {
        Some(answer(429, &[("retry-after", "60")], "slow down"))
    })
    .await;
    assert_registry_refused(
        &server,
        "answered 429 where the manifest was asked for; try again in 60 s, or sign in",
    )
    .await;
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_given_up() {
    let silent = |_: &Asked| {
        Some(json_manifest(Body::from_stream(stream::pending::<
            Result<Bytes, Infallible>,
        >())))
    };
    let server = registry(&toolbox(), silent).await;
    let place = Workplace::new();
    let ended = place
        .troupe(["agent", "inspect", &reference(&server)])
        .end()
        .await
        .expect_code(2);
    assert!(
        ended
            .stderr
            .contains("did not send the manifest in time: nothing came for 30000 ms"),
        "{ended}"
    );
}

/// A client that waits for shorter.
fn hasty() -> Registry {
    let limits = RegistryLimits {
        answer: Duration::from_millis(300),
        between_bytes: Duration::from_millis(300),
        total: Duration::from_secs(1),
        component_bytes_max: 1 << 30,
    };
    let client = HttpClient::new(&HttpSettings::STANDARD).unwrap();
    Registry::new(client, Arc::new(|_| Ok(None)), limits)
}

#[tokio::test]
async fn a_component_that_comes_too_slowly_is_given_up() {
    let fetch = async |server: &Scripted| {
        let reference: RegistryReference = reference(server).parse().unwrap();
        let artifact = hasty().resolve(&reference).await.unwrap();
        let fetching = tokio::time::timeout(Duration::from_secs(10), async {
            hasty().fetch(&artifact).await
        });
        fetching.await.unwrap().unwrap_err()
    };
    let stalled = |asked: &Asked| {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"\0asm"))]);
        is_blob(asked).then(|| answer(200, &[], Body::from_stream(first.chain(stream::pending()))))
    };
    let error = fetch(&registry(&toolbox(), stalled).await).await;
    assert!(
        matches!(
            error,
            RegistryError::TimedOut {
                what: "component",
                ..
            }
        ),
        "{error}"
    );
    // A byte now and then, for ever.
    let dripping = |asked: &Asked| {
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        is_blob(asked).then(|| answer(200, &[], Body::from_stream(drops)))
    };
    let error = fetch(&registry(&toolbox(), dripping).await).await;
    assert!(
        matches!(
            error,
            RegistryError::TimedOut {
                what: "component",
                ..
            }
        ),
        "{error}"
    );

    // Connections are taken, and nothing is ever said.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let reference = format!("oci://{}/name:1", listener.local_addr().unwrap());
    let error = hasty()
        .resolve(&reference.parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::TimedOut {
                what: "manifest",
                ..
            }
        ),
        "{error}"
    );
}
