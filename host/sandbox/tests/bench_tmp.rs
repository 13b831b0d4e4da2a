//! temporary
#[path = "sandbox/support.rs"]
#[allow(dead_code)]
mod support;
use support::*;
fn stats(name: &str, mut v: Vec<std::time::Duration>) {
    v.sort();
    println!(
        "BENCH {name}: p50 {:?} p90 {:?} p99 {:?} n {}",
        v[v.len() / 2],
        v[v.len() * 9 / 10],
        v[v.len() * 99 / 100],
        v.len()
    );
}
#[tokio::test]
async fn bench() {
    let echo = guest("echo").await;
    let mut v = vec![];
    for _ in 0..3000 {
        let t = std::time::Instant::now();
        let r = sandbox()
            .call_agent(&echo, invocation("a", "1"), call())
            .await
            .unwrap();
        v.push(t.elapsed());
        assert!(matches!(r.outcome, troupe_sandbox::Outcome::Returned(_)));
    }
    stats("rust echo", v);
    for (n, p, s) in [
        ("python 1+1", "plugins/python.wasm", "1+1"),
        ("javascript 1+1", "plugins/javascript.wasm", "return 1+1"),
        (
            "python json/re",
            "plugins/python.wasm",
            "import json,re,datetime\nresult=[re.findall('a+','baab'), json.loads('{}')]",
        ),
    ] {
        let c = artefact(p).await;
        let mut v = vec![];
        for _ in 0..300 {
            let t = std::time::Instant::now();
            let r = sandbox()
                .execute(&c, program("x", s), call())
                .await
                .unwrap();
            v.push(t.elapsed());
            assert!(matches!(r.outcome, troupe_sandbox::Outcome::Returned(_)));
        }
        stats(n, v);
    }
}
