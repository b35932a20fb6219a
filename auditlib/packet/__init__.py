"""The packet: the answer that an auditor checks alone, offline (DESIGN 4.7).

bag.py      a BagIt bag: manifests, reading, writing, the zip
proofs.py   records -> batches -> seals -> checkpoint
report.py   what people read
build.py    runs the notebook and puts everything together
check.py    the numbered packet checks; tables.py is the last of them
"""
