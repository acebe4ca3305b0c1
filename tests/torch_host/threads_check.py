"""Large steps run on torch's own threads, where those are there; the bits are always the same.

Each scenario has a process of its own, which is given up for lost after a while.
"""

import subprocess
import sys

import pytest

BEGIN = """
import os, sys, threading
import instep.torch, torch

def trained():
    p = torch.linspace(-3, 5, 300_000, requires_grad=True)
    opt = instep.torch.Adam([p], lr=1e-2)
    for _ in range(5):
        p.grad = torch.frac(7 * p.detach())
        opt.step()
    return p.detach().numpy().tobytes()

def workers():
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum(name.strip() == "instep" for name in names)
"""
SCENARIOS = {
    "torch's threads do it": """
instep.set_num_threads(2)
first = trained()
assert workers() == 0, "a worker of instep's own was started"
""",
    "any number of them gives the same bits": """
wanted = trained()
for threads in (1, 2, 3):
    torch.set_num_threads(threads)
    for own in (1, 2, 5):
        instep.set_num_threads(own)
        assert trained() == wanted, (threads, own)
""",
    "a forked child has none, and goes on": """
torch.set_num_threads(2)
instep.set_num_threads(2)
p = torch.randn(300_000, requires_grad=True)
opt = instep.torch.Adam([p], lr=1e-2)
p.grad = torch.frac(p.detach())
opt.step()
before, g = p.detach().clone(), p.grad.clone()
child = os.fork()
if child == 0:
    opt.step()
    os.write(1, b"child " + p.detach().numpy().tobytes()[:400])
    os._exit(0 if workers() == 1 else 3)
assert os.waitpid(child, 0)[1] == 0
opt.step()
os.write(1, b"parent" + p.detach().numpy().tobytes()[:400])
""",
    "threads that flush small numbers are left out": """
torch.set_num_threads(2)
instep.set_num_threads(2)
# They are born in the mode of their caller.
torch.set_flush_denormal(True)
torch.ones(1_000_000).exp()
torch.set_flush_denormal(False)
p = torch.full((1_000_000,), 3e-40, requires_grad=True)
opt = instep.torch.SGD([p], lr=0.5)
p.grad = torch.full((1_000_000,), 2e-40)
opt.step()
assert torch.all(p == torch.tensor(2e-40)), p
""",
    "several callers have a team each": """
instep.set_num_threads(2)
wanted, found = trained(), []
threads = [threading.Thread(target=lambda: found.append(trained())) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert found == [wanted] * 3
""",
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    command = [sys.executable, "-c", BEGIN + SCENARIOS[name]]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    if done.stdout:
        half = len(done.stdout) // 2
        assert (done.stdout[:6], done.stdout[half : half + 6]) == (b"child ", b"parent")
        assert done.stdout[6:half] == done.stdout[half + 6 :]
