/* Order of search results: pages for users come before the changelog, the reference and the pages for developers. */
var Scorer = {
  after: { CHANGELOG: 60, CONTRIBUTING: 40, SECURITY: 40, README: 20, "docs/structure": 50, "docs/index": 30, "docs/api": 15, "docs/compatibility": 10 },
  score: ([docname, title, anchor, descr, score]) => score - (Scorer.after[docname] ?? 0) + (anchor ? 10 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
