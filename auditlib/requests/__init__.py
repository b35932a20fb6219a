"""The auditor's request list: each request answered by a packet, all of them by one command.

model.py       requests.toml -> requests and trails
asking.py      a request, a period -> what its notebook is asked; refused before anything runs
places.py      the trails that are asked, each at one checkpoint
building.py    answer many, in one process or several; one that fails stops no other
standing.py    what stands: never built, built at which checkpoint, reproduces or not
index_page.py  index.html and index.json over a folder of packets, and one digest
laying.py      a new request: a notebook and a few lines
"""
