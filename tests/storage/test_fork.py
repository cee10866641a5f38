"""Forks, in processes of their own: what a child inherits must neither block it nor keep its parent alive."""

import os
import signal

from tk_spans import Script
from tk_wait import eventually

from tracekeep.storage.reader import JournalReader, Position

SIMPLE = """
import os, sys, time
from tk_spans import Recorder
from tracekeep.storage import open_store
store = open_store(sys.argv[1], writer="none")
record = Recorder(store)
record.many(10)
print(store.journal.name, flush=True)
child = os.fork()
if child == 0:
    record.many(5)
    print(store.journal.name, flush=True)
sys.stdin.read()
time.sleep(60)
"""

MANY = """
import os, sys, threading
from tk_spans import Recorder
from tracekeep.storage import open_store
store = open_store(sys.argv[1])
record = Recorder(store)
stop, counts = threading.Event(), []
def keep_recording():
    count = 0
    while not stop.wait(0.0002):
        record("thread")
        count += 1
    counts.append(count)
threads = [threading.Thread(target=keep_recording) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        record("child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
print(sum(counts))
"""

WRITER = """
import os, sys, time
from tk_spans import Recorder
from tracekeep.storage import open_store
store = open_store(sys.argv[1])
record = Recorder(store)
record("parent")
assert store.flush(10)
child = os.fork()
if child == 0:
    print("forked", flush=True)
    sys.stdin.readline()
    record("child")
    print(store.flush(10), store._writer.holds_role, os.getpid(), flush=True)
    time.sleep(60)
os.kill(os.getpid(), 9)
"""

ASKING = """
import os, signal, sys, threading
import psutil
from tk_spans import Recorder
from tracekeep.storage import open_store, reads
store = open_store(sys.argv[1])
record = Recorder(store)
record.many(100)
assert store.flush(10)
stop, ends = threading.Event(), []
def keep_recording():
    while not stop.wait(0.002):
        record.many(50)
def keep_asking():
    while not stop.is_set():
        store.totals(), store.spans(limit=1)
threads = [threading.Thread(target=each) for each in (keep_recording, keep_asking)]
for thread in threads: thread.start()
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        inherited = [each.path for each in psutil.Process().open_files() if ".db" in each.path]
        store.totals(), store.spans(limit=1)
        os._exit(len(inherited))
    ends.append(os.waitpid(child, 0)[1])
    while not store._writer.holds_role and not store.flush(1): pass
stop.set()
for thread in threads: thread.join()
print(ends)
"""


def is_alive(journal):
    reader = JournalReader(journal, Position())
    alive = reader.check_alive()
    if reader.adopted is not None:
        reader.adopted.release()
    return alive


def test_a_child_has_its_own_journal(tmp_path):
    """It records into a directory of its own, and its parent is seen dead as soon as it is, while the child lives."""
    with Script(SIMPLE, tmp_path) as parent:
        journals = [tmp_path / "journal" / parent.line() for _ in range(2)]
        assert journals[0] != journals[1]
        readers = [JournalReader(journal, Position()) for journal in journals]
        assert [len(reader.read(100)) for reader in readers] == [10, 5]
        assert [is_alive(journal) for journal in journals] == [True, True]
        parent.kill()
        eventually(lambda: [is_alive(journal) for journal in journals] == [False, True], 5)
        parent.process.stdin.close()
        for reader in readers:
            reader.release()
        os.kill(int(journals[1].name.split("-")[1]), signal.SIGKILL)


def test_a_hundred_forks_while_threads_record(tmp_path, opened):
    """No child hangs on a lock that a thread held at the fork; each one's span, and all of the threads', are kept."""
    with Script(MANY, tmp_path) as parent:
        recorded = int(parent.end(timeout=60))
    store = opened()
    account = eventually(lambda: balanced(store, recorded + 100), 60)
    assert account.stored == recorded + 100
    assert len(store.spans(name="child", limit=1000).items) == 100


def test_a_child_inherits_nothing_of_sqlite(tmp_path, long):
    """Children of a process that writes and asks find no database open and can ask, too: no mutex is held for ever."""
    times = 400 if long else 6
    with Script(ASKING, tmp_path, times) as parent:
        assert parent.end(timeout=600 if long else 60).strip() == str([0] * times)


def balanced(store, accepted):
    account = store.accounting()
    assert account.balanced
    assert account.accepted == accepted, account
    assert not account.pending
    return account


def test_the_role_does_not_live_on_in_a_child(tmp_path):
    """When a parent that was the writer dies, its child, which inherited its locks, becomes the writer itself."""
    with Script(WRITER, tmp_path) as parent:
        assert parent.line() == "forked"
        assert parent.process.wait(10) == -9
        parent.say()
        flushed, holds_role, pid = parent.line().split()
        os.kill(int(pid), signal.SIGKILL)
        assert (flushed, holds_role) == ("True", "True")
