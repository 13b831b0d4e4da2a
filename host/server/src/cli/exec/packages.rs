//! The packages of `troupe exec --package`: files that are copied into one folder, which the code's interpreter is given to
//! read. Nothing is unpacked or downloaded here, and nothing but the first bytes looked at.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;
use troupe_workflow::Language;

/// Packages of one call. Protects the machine's temporary folder.
const PACKAGES_MAX: usize = 100;
/// Bytes of a wheel. Protects the same.
const WHEEL_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a file of JavaScript, as many as the interpreter reads. Protects its memory.
const BUNDLE_BYTES_MAX: u64 = 16 << 20;
/// Characters of a package's name, as npm has it.
const NAME_CHARS_MAX: usize = 214;

/// A folder with the packages that were given; none: there are none.
pub(super) fn folder(given: &[String], language: Language) -> anyhow::Result<Option<TempDir>> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.len() > PACKAGES_MAX {
        return Err(anyhow!("--package is given more than {PACKAGES_MAX} times"));
    }
    let folder = tempfile::tempdir().context("no folder can be made for packages")?;
    let mut names = BTreeSet::new();
    for given in given {
        let (name, file, bytes_max) = match language {
            Language::Python => {
                let (name, file) = wheel(given)?;
                let distribution = distribution(&name);
                if !names.insert(distribution.clone()) {
                    return Err(anyhow!(
                        "--package {given}: there are two wheels of the package `{distribution}`; give one of them"
                    ));
                }
                (PathBuf::from(name), file, WHEEL_BYTES_MAX)
            }
            Language::JavaScript => {
                let (name, file) = bundle(given)?;
                if !names.insert(name.display().to_string()) {
                    return Err(anyhow!(
                        "--package {given}: there are two packages of that name; name one with --package NAME=FILE"
                    ));
                }
                (name, file, BUNDLE_BYTES_MAX)
            }
        };
        let copied = copy(&file, &folder.path().join(name), (language, bytes_max));
        copied.with_context(|| format!("the package {} cannot be read", file.display()))?;
    }
    Ok(Some(folder))
}

/// A wheel, which keeps its name.
fn wheel(given: &str) -> anyhow::Result<(String, PathBuf)> {
    let file = PathBuf::from(given);
    match file.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.ends_with("-none-any.whl") => Ok((name.to_owned(), file)),
        _ => Err(anyhow!(
            "{given} is no pure-Python wheel: its name does not end in `-none-any.whl`; packages with native code cannot run here"
        )),
    }
}

/// The package that a wheel is of, written as all its spellings are the same: the wheel's name up to the first `-`.
fn distribution(wheel: &str) -> String {
    let name = wheel.split('-').next().unwrap_or_default();
    let parts = name.split(['.', '_']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// `lodash.min.js`, or `@scope/name=bundle.js`.
fn bundle(given: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (name, path) = match given.split_once('=') {
        Some((name, path)) => (name, Path::new(path)),
        None => {
            let path = Path::new(given);
            let name = path.file_name().and_then(|name| name.to_str());
            (name.map_or("", name_of), path)
        }
    };
    let is_script = path
        .extension()
        .is_some_and(|ending| ["js", "mjs", "cjs"].iter().any(|known| ending == *known));
    if !is_script {
        return Err(anyhow!(
            "--package {given}: a package for JavaScript is one file that ends in .js, .mjs or .cjs: bundle it (`esbuild --bundle --platform=browser`)"
        ));
    }
    if !is_name(name) {
        return Err(anyhow!(
            "--package {given}: `{name}` is no name of a package; give one with --package NAME=FILE, where NAME is like `dayjs` or `@scope/name`"
        ));
    }
    Ok((PathBuf::from(format!("{name}.js")), path.to_owned()))
}

/// What a file is called: up to the first point that is not its first character.
fn name_of(file: &str) -> &str {
    file.split('.').next().unwrap_or_default()
}

/// As npm names packages: with or without a scope. It is a path below the folder and nothing else.
fn is_name(name: &str) -> bool {
    let (scope, name) = match name.split_once('/') {
        Some((scope, name)) => (scope.strip_prefix('@'), name),
        None => (Some("scope"), name),
    };
    let is_part = |part: &str| {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(is_known)
            && part.len() <= NAME_CHARS_MAX / 2
    };
    scope.is_some_and(is_part) && is_part(name)
}

fn copy(from: &Path, to: &Path, (language, bytes_max): (Language, u64)) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut from = File::open(from)?;
    if language == Language::Python {
        check_archive(&mut from)?;
    }
    let copied = io::copy(&mut from.take(bytes_max + 1), &mut File::create(to)?)?;
    match copied <= bytes_max {
        true => Ok(()),
        false => Err(anyhow!("it has more than {bytes_max} bytes")),
    }
}

/// Python passes over what is no ZIP file, and says only that there is no such module.
fn check_archive(wheel: &mut File) -> anyhow::Result<()> {
    const BEGINNING: &[u8] = b"PK\x03\x04";
    let mut first = Vec::new();
    let length = u64::try_from(BEGINNING.len()).unwrap_or(u64::MAX);
    wheel.by_ref().take(length).read_to_end(&mut first)?;
    wheel.rewind()?;
    match first == BEGINNING {
        true => Ok(()),
        false => Err(anyhow!(
            "it is no wheel: it does not begin as a ZIP file does"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_its_file_or_by_its_caller() {
        let named = |given: &str| bundle(given).map(|(name, _)| name.display().to_string());
        for (given, name) in [
            ("lodash.min.js", "lodash.js"),
            ("/some/where/dayjs.mjs", "dayjs.js"),
            ("chart.umd.cjs", "chart.js"),
            ("big.js=build/big.js", "big.js.js"),
            ("@scope/name=a=b.js", "@scope/name.js"),
        ] {
            assert_eq!(named(given).expect("a package"), name);
        }
        for wrong in [
            "lodash",
            "lodash.min.css",
            ".js",
            "=a.js",
            "../a=a.js",
            "@a/../b=a.js",
            "@/a=a.js",
            "a/b=a.js",
            "/a=a.js",
            "a b=a.js",
            "..=a.js",
            "é=a.js",
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
        assert!(!is_name(&"a".repeat(300)));
    }

    #[test]
    fn all_spellings_of_a_package_are_one() {
        for wheel in [
            "Zope.Interface-6.0-py3-none-any.whl",
            "zope_interface-7.1-py3-none-any.whl",
            "zope__interface-7.1-1-py3-none-any.whl",
        ] {
            assert_eq!(distribution(wheel), "zope-interface");
        }
    }
}
