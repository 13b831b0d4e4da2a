//! The index over a real folder of small files.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A PDF of one page for each text; every object is where the table says.
pub(super) fn pdf(title: &str, pages: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        String::new(), // the page tree, when the pages are known
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
        format!("<< /Title ({title}) /CreationDate (D:20260102030405Z) >>"),
    ];
    let mut kids = String::new();
    for text in pages {
        let lines: String = text
            .lines()
            .map(|line| format!("({line}) Tj T* "))
            .collect();
        let stream = format!("BT /F1 12 Tf 14 TL 72 720 Td {lines}ET");
        objects.push(format!(
            "<< /Length {} >>\nstream\n{stream}\nendstream",
            stream.len()
        ));
        let content = objects.len();
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        ));
        kids.push_str(&format!("{} 0 R ", objects.len()));
    }
    objects[1] = format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", pages.len());
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut table = String::new();
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.extend(format!("{} 0 obj\n{object}\nendobj\n", number + 1).bytes());
    }
    let start = out.len();
    let size = objects.len() + 1;
    out.extend(format!("xref\n0 {size}\n0000000000 65535 f \n{table}").bytes());
    out.extend(
        format!("trailer\n<< /Size {size} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF\n")
            .bytes(),
    );
    out
}

struct Fixture {
    folder: TempDir,
    data: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            folder: TempDir::new().unwrap(),
            data: TempDir::new().unwrap(),
        };
        fixture.write("solar.md", b"---\ndate: 2026-05-06\n---\n# Solar power in India\n\nIndia added **15 GW** of [solar](https://x.org) capacity in 2025.\n\n- Rooftop systems grew.\n- Parks grew too.\n");
        fixture.write(
            "wind.txt",
            b"Wind notes\n\nWind turbines off the coast run at night. Caf\xe9 owners like them.\n",
        );
        fixture.write(
            "reports/storage.html",
            b"<html><head><title>Battery &amp; storage</title><meta property=\"article:published_time\" content=\"2026-01-02T03:04:05Z\">\
              <style>p{color:red}</style></head><body><h1>Storage</h1><p>Batteries store solar power for the <b>night</b>.</p>\
              <script>alert(1)</script></body></html>",
        );
        fixture.write(
            "reports/grid.pdf",
            &pdf(
                "Grid report",
                &[
                    "The grid needs new lines.",
                    "Transformers are in short supply\nin every state.",
                ],
            ),
        );
        fixture
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn open_with(&self, limits: DocumentLimits) -> Documents {
        let settings = DocumentsSettings {
            name: "document".to_owned(),
            folder: self.folder.path().to_path_buf(),
            index_file: self.data.path().join("sub/index.db"),
            limits,
        };
        Documents::open(settings).unwrap()
    }

    fn open(&self) -> Documents {
        self.open_with(DocumentLimits {
            refresh_after: Duration::ZERO,
            ..DocumentLimits::STANDARD
        })
    }
}

async fn search(documents: &Documents, text: &str) -> Vec<SearchHit> {
    let query = SearchQuery {
        text: text.to_owned(),
        max_results: 10,
        language: None,
        time_range: None,
        timeout: Duration::from_secs(30),
    };
    documents.search(&query).await.unwrap()
}

async fn titles(documents: &Documents, text: &str) -> Vec<String> {
    search(documents, text)
        .await
        .into_iter()
        .map(|hit| hit.title)
        .collect()
}

fn counts(report: &IndexReport) -> [u64; 5] {
    [
        report.added,
        report.changed,
        report.removed,
        report.unchanged,
        report.documents,
    ]
}

#[tokio::test]
async fn finds_passages_in_every_format() {
    let fixture = Fixture::new();
    let documents = fixture.open();
    let report = documents.refresh().await.unwrap();
    assert_eq!(
        (counts(&report), report.warnings),
        ([4, 0, 0, 0, 4], vec![])
    );

    let hits = search(&documents, "solar capacity").await;
    assert_eq!(hits[0].title, "Solar power in India");
    assert_eq!(
        hits[0].snippet,
        "Solar power in India\n\nIndia added 15 GW of solar capacity in 2025.\n\n- Rooftop systems grew.\n- Parks grew too."
    );
    assert_eq!(
        hits[0].published_at.as_deref(),
        Some("2026-05-06T00:00:00Z")
    );
    assert_eq!(
        (
            hits[0].source.as_str(),
            hits[0].query.as_str(),
            hits[0].score_permille
        ),
        ("document", "solar capacity", 1_000)
    );

    let hits = search(&documents, "batteries at night").await;
    assert_eq!(hits[0].title, "Battery & storage");
    assert_eq!(
        hits[0].published_at.as_deref(),
        Some("2026-01-02T03:04:05Z")
    );
    assert!(
        !hits[0].snippet.contains("alert") && !hits[0].snippet.contains("color"),
        "{}",
        hits[0].snippet
    );
    assert!(hits[0].url.starts_with("file:///") && hits[0].url.ends_with("/reports/storage.html"));

    let hits = search(&documents, "transformer supply").await;
    assert_eq!(
        (hits[0].title.as_str(), hits[0].snippet.as_str()),
        (
            "Grid report",
            "Transformers are in short supply in every state."
        )
    );
    assert!(
        hits[0].url.ends_with("/reports/grid.pdf#page=2"),
        "{}",
        hits[0].url
    );
    assert_eq!(
        hits[0].published_at.as_deref(),
        Some("2026-01-02T00:00:00Z")
    );

    assert_eq!(search(&documents, "café").await[0].title, "Wind notes");
}

#[tokio::test]
async fn documents_with_all_words_come_before_those_with_some() {
    let fixture = Fixture::new();
    let documents = fixture.open();
    assert_eq!(
        titles(&documents, "solar power night").await,
        ["Battery & storage", "Solar power in India", "Wind notes"]
    );
    assert_eq!(
        titles(&documents, "\"solar\" NOT (power* title:^x").await[0],
        "Solar power in India"
    );
    assert_eq!(titles(&documents, "zzz").await, Vec::<String>::new());
    assert_eq!(titles(&documents, "?!").await, Vec::<String>::new());
}

#[tokio::test]
async fn follows_the_folder() {
    let fixture = Fixture::new();
    let documents = fixture.open();
    documents.refresh().await.unwrap();
    assert_eq!(counts(&documents.refresh().await.unwrap()), [0, 0, 0, 4, 4]);

    fixture.write(
        "wind.txt",
        b"Wind notes\n\nNothing but calm days and geothermal springs.",
    );
    fixture.write("new.txt", b"A new file about tides.");
    fs::remove_file(fixture.folder.path().join("reports/grid.pdf")).unwrap();
    assert_eq!(counts(&documents.refresh().await.unwrap()), [1, 1, 1, 2, 4]);
    assert_eq!(titles(&documents, "geothermal").await, ["Wind notes"]);
    assert_eq!(titles(&documents, "turbines").await, Vec::<String>::new());
    assert_eq!(
        titles(&documents, "transformers").await,
        Vec::<String>::new()
    );

    let again = fixture.open();
    assert_eq!(counts(&again.refresh().await.unwrap()), [0, 0, 0, 4, 4]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_warning() {
    let fixture = Fixture::new();
    let whole = pdf("Broken", &["Some text."]);
    fixture.write("cut.pdf", &whole[..whole.len() / 2]);
    fixture.write("noise.pdf", b"%PDF-1.4\nnothing of the kind");
    fixture.write("picture.txt", b"\x89PNG\r\n\x00\x00\x00");
    fixture.write("large.txt", &b"word ".repeat(1_000));
    fixture.write("long.md", "A sentence. ".repeat(300).as_bytes());
    fixture.write("empty.txt", b"");
    let limits = DocumentLimits {
        file_bytes_max: 4_096,
        text_bytes_max: 1_000,
        refresh_after: Duration::ZERO,
        ..DocumentLimits::STANDARD
    };
    let documents = fixture.open_with(limits);
    let report = documents.refresh().await.unwrap();
    let warned: Vec<&str> = report
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(
        warned,
        [
            "cut.pdf",
            "large.txt",
            "long.md",
            "noise.pdf",
            "picture.txt"
        ]
    );
    assert_eq!(titles(&documents, "solar").await.len(), 2);

    // Not read again, but not forgotten; and read when the limit allows it.
    let report = documents.refresh().await.unwrap();
    assert_eq!((report.unchanged, report.warnings.len()), (10, 5));
    let report = fixture.open().refresh().await.unwrap();
    assert_eq!((report.changed, report.warnings.len()), (1, 4));
}

#[tokio::test]
async fn leaves_out_what_is_hidden_linked_or_no_document() {
    let fixture = Fixture::new();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    fixture.write(".git/notes.txt", b"secret");
    fixture.write(".hidden.txt", b"secret");
    fixture.write("program.exe", b"secret");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path(), fixture.folder.path().join("linked")).unwrap();
        std::os::unix::fs::symlink(
            outside.path().join("secret.txt"),
            fixture.folder.path().join("link.txt"),
        )
        .unwrap();
    }
    let documents = fixture.open();
    assert_eq!(titles(&documents, "secret").await, Vec::<String>::new());
    let limits = DocumentLimits {
        files_max: 2,
        ..DocumentLimits::STANDARD
    };
    let few = fixture.open_with(limits).refresh().await.unwrap();
    assert_eq!(few.warnings.len(), 1);
    assert!(
        few.warnings[0].message.contains("more than 2 files"),
        "{}",
        few.warnings[0].message
    );
}

#[tokio::test]
async fn two_processes_share_one_index() {
    let fixture = Fixture::new();
    for number in 0..40 {
        fixture.write(
            &format!("many/{number}.txt"),
            format!("Document number {number} about tides.").as_bytes(),
        );
    }
    let (one, two) = (fixture.open(), fixture.open());
    let (first, second) = tokio::join!(one.refresh(), two.refresh());
    assert_eq!(
        (first.unwrap().documents, second.unwrap().documents),
        (44, 44)
    );
    assert_eq!(search(&one, "tides").await.len(), 10);
    assert_eq!(search(&two, "tides").await, search(&one, "tides").await);
}

#[test]
fn refuses_what_is_no_folder_or_no_index() {
    let fixture = Fixture::new();
    let open = |folder: &Path, index_file: &Path| {
        let settings = DocumentsSettings {
            name: "document".to_owned(),
            folder: folder.to_path_buf(),
            index_file: index_file.to_path_buf(),
            limits: DocumentLimits::STANDARD,
        };
        Documents::open(settings)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let index = fixture.data.path().join("index.db");
    let error = open(Path::new("/nowhere/at/all"), &index);
    assert!(
        error.contains("[sources.document]") && error.contains("set `path`"),
        "{error}"
    );
    assert!(open(&fixture.folder.path().join("wind.txt"), &index).contains("it is no folder"));

    let text = fixture.data.path().join("text.db");
    fs::write(
        &text,
        "not a database, but long enough to be looked at as one ".repeat(20),
    )
    .unwrap();
    assert!(open(fixture.folder.path(), &text).contains("not a database"));
    let foreign = fixture.data.path().join("foreign.db");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    assert!(open(fixture.folder.path(), &foreign).contains("another program's database"));

    let other = TempDir::new().unwrap();
    Documents::open(DocumentsSettings {
        name: "document".to_owned(),
        folder: other.path().to_path_buf(),
        index_file: index.clone(),
        limits: DocumentLimits::STANDARD,
    })
    .unwrap();
    assert!(open(fixture.folder.path(), &index).contains("it is the index of"));
}

#[test]
fn files_without_end_do_not_stop_the_others() {
    let fixture = Fixture::new();
    let limits = DocumentLimits {
        extract_timeout: Duration::ZERO,
        ..DocumentLimits::STANDARD
    };
    let extractor = Extractor::new(limits);
    let files = scan::scan(fixture.folder.path(), 10).unwrap().files;
    for file in files.iter().cycle().take(50) {
        // No time at all: the thread is given up, or refused while two are still at work. Either way the call ends.
        let read = extractor.read(file, None);
        assert!(read.is_err() || read.is_ok_and(|read| read.is_some()));
    }
}
