"""The packet: the answer that an auditor checks alone, offline (DESIGN 4.7).

notebook.py finds, parameterizes and runs the request's notebook
prove.py    draws the proof from the vault
report.py   what people read
build.py    puts everything together; vaults.py opens what it is made from
bag.py      a BagIt bag: manifests, reading, writing, the zip
proofs.py   records -> batches -> seals -> checkpoint: the proof files, and checking them
check.py    the numbered packet checks; tables.py is the last of them
"""
