"""The auditor's view: a scoped, read-only dashboard, every look recorded before it is shown.

opening.py       everything it stands on, opened and closed in order
  vaults.py        the vaults, verified once for everybody
  pipeline.py      its own collector, where it is given none
  recorder.py      the audit of the auditor   (disclosed, journal, appended: what is kept beside the events)
  signins.py       who is signed in           (accounts, guesses, attempts, oidc: how; signin_pages: where)
  work.py          requests that are run      (asked, lanes, work_child, ending, answered)
  handed.py        one-time downloads
server.py        Panel's server, and who may open which page   (headers: what a browser may run; gate: may say)
visit.py         one open page of one signed-in person: the only way from a page to a trail
  whole.py         what is about the whole trail, to whom sees all of it   (chain, locked, observed, overdue, probed)
  exceptions.py    what the answers found
pages/           what is shown               (sentence: an event in words)
markup.py        HTML, escaped          (texts: values as people read them); templates/ and static/ beside it
"""
