//! What is looked at, and how often.

use troupe_sandbox::SandboxConfig;

use super::*;

/// A tool with one function.
fn tool(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func (export "{name}") (canon lift (core func $i "f"))))"#
    );
    wat::parse_str(text).unwrap()
}

fn components(folder: &Path) -> Components {
    let sandbox = Sandbox::new(SandboxConfig::new(folder.join("cache"))).unwrap();
    Components::new(sandbox, folder, Vec::new())
}

fn add(components: &Components, wasm: &[u8]) -> (Which, PathBuf) {
    let digest = ComponentDigest::of(wasm);
    let path = components.kept(&digest);
    std::fs::create_dir_all(&components.folder).unwrap();
    std::fs::write(&path, wasm).unwrap();
    (Which::Added(digest), path)
}

fn slots(components: &Components) -> usize {
    components.slots.lock().unwrap().len()
}

#[tokio::test]
async fn components_that_are_not_here_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let components = Arc::new(components(folder.path()));
    for number in 0..100_u8 {
        let which = Which::Added(ComponentDigest::of(&[number]));
        let error = components.examine(which).await.unwrap_err();
        assert!(error.to_string().contains("is not on this machine"));
        assert!(matches!(
            components.prepare(which),
            Readiness::Refused(reason) if reason.contains("is not on this machine")
        ));
        assert!(components.loaded(which).await.is_err());
    }
    assert_eq!(slots(&components), 0);
}

#[tokio::test]
async fn a_component_is_read_once_however_many_look_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let components = components(folder.path());
    let (which, path) = add(&components, &tool("f"));
    let first = components.examine(which).await.unwrap();
    assert_eq!(first.functions, 1);
    // Whoever reads it again finds another digest.
    std::fs::write(&path, b"something else").unwrap();
    let again = components.examine(which).await.unwrap();
    assert_eq!(again.kind, first.kind);
    // One that is gone is not here, whatever it was.
    std::fs::remove_file(&path).unwrap();
    let error = components.examine(which).await.unwrap_err();
    assert!(error.to_string().contains("is not on this machine"));
}

#[tokio::test]
async fn a_file_that_was_changed_is_found_by_whoever_looks_first() {
    let folder = tempfile::tempdir().unwrap();
    let components = components(folder.path());
    let (which, path) = add(&components, &tool("f"));
    std::fs::write(&path, tool("g")).unwrap();
    let error = components.examine(which).await.unwrap_err();
    assert!(error.to_string().contains("was changed"), "{error:#}");
    // What went wrong is not kept.
    std::fs::write(&path, tool("f")).unwrap();
    components.examine(which).await.unwrap();
}
