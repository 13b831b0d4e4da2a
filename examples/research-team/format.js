// Makes the report. `input` is {topic, summary, sources, claims, keywords}; the result is Markdown.

function format({ topic, summary, sources, claims, keywords }) {
  const lines = [`# ${topic}`, ""];
  if (keywords.length > 0) {
    lines.push(`Keywords: ${keywords.join(", ")}`, "");
  }
  lines.push(summary.trim(), "");
  if (claims.length > 0) {
    const supported = claims.filter((claim) => claim.verdict === "supported").length;
    lines.push(`## Checked statements (${supported} of ${claims.length} supported)`, "");
    for (const { claim, verdict, sources: found } of claims) {
      const where = found.length > 0 ? ` (${found.map((source) => source.title).join("; ")})` : "";
      lines.push(`- [${verdict === "supported" ? "x" : " "}] ${claim}${where}`);
    }
    lines.push("");
  }
  lines.push("## Read for this report", "");
  for (const { title, url } of sources) {
    lines.push(`- ${title}: <${url}>`);
  }
  return lines.join("\n");
}
