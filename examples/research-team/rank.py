"""Drops what was found twice and puts the rest in order: the passages that speak most of the topic first.

`input` is {"topic": "...", "results": [...]}, the results as a search step gives them. The result is
{"ranked": [...], "dropped": n}.
"""

import re
from collections import Counter

KEPT_MAX = 8
STOP_WORDS = set("a an and are as at be by do does for from how in is it of on or that the to what with".split())


def words(text):
    return [word for word in re.findall(r"[\w'-]+", text.lower()) if word not in STOP_WORDS]


def same_text(one, other):
    """Whether two passages share nine of ten words: the same text under two addresses."""
    one, other = Counter(words(one)), Counter(words(other))
    shared = sum((one & other).values())
    return shared >= 0.9 * max(sum(one.values()), sum(other.values()), 1)


def rank(task):
    topic = set(words(task["topic"]))

    def relevance(result):
        found = topic & set(words(result["title"] + " " + result["snippet"]))
        return len(found) / max(len(topic), 1) + 0.5 * result["score"]

    kept = []
    for result in sorted(task["results"], key=relevance, reverse=True):
        if not any(result["url"] == other["url"] or same_text(result["snippet"], other["snippet"]) for other in kept):
            kept.append({**result, "relevance": round(relevance(result), 3)})
    ranked = kept[:KEPT_MAX]
    return {"ranked": ranked, "dropped": len(task["results"]) - len(ranked)}
