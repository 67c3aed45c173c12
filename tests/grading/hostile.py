"""Submissions that try to get what they do not deserve, or to harm. Each with what must come of it.

An attack is code that follows the right answers, or replaces them. `lost` names the questions that it must lose; every
other question keeps its points, so that an attack neither wins nor hurts anybody else.
"""

import contextlib
import socket
from dataclasses import dataclass

PORT = 18_321  # a server of this machine, which nothing in a box should reach
ALL = frozenset(f"q{i}" for i in range(1, 9))


@dataclass(frozen=True)
class Attack:
    """`code` is run after the right answers. `self_harm`: how much it spoils of its own depends on the moment."""

    code: str
    lost: frozenset[str] = frozenset()
    self_harm: bool = False


def wrong(code, *lost, self_harm=False):
    return Attack(code, frozenset(lost), self_harm)


@contextlib.contextmanager
def server():
    """Something to be reached on this machine; if another test listens there already, that will do."""
    with socket.socket() as listening, contextlib.suppress(OSError):
        listening.bind(("127.0.0.1", PORT))
        listening.listen()
        yield
        return
    yield


WRONG = "def softmax(x):\n    return x\n"
ATTACKS = {
    # --- endless and greedy -------------------------------------------------------------------------------------
    "infinite loop in a cell": wrong("while True: pass"),
    "infinite loop that catches everything": wrong(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass", self_harm=True
    ),
    "infinite loop in a function": wrong("def entropy(w):\n    while True: pass", "q7"),
    "sleep": wrong("def entropy(w):\n    import time\n    time.sleep(1000)", "q7"),
    "memory in a cell": wrong("hoard = [bytearray(10**9) for _ in range(100)]"),
    "memory in a function": wrong("def entropy(w):\n    return torch.ones(10**11)", "q7"),
    "fork bomb": wrong(
        "import os\nfor _ in range(500):\n    try:\n        os.fork()\n    except OSError:\n        break",
        self_harm=True,
    ),
    "threads left running": wrong(
        "import threading\nfor _ in range(20):\n    threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
        self_harm=True,
    ),
    "fills the disk": wrong(
        "try:\n    with open('/tmp/x', 'wb') as f:\n        for _ in range(10**4): f.write(bytes(10**6))\n"
        "except OSError: pass"
    ),
    "floods standard output": wrong("for _ in range(10**5): print('x' * 1000)"),
    "floods the pipe": wrong("import os\nfor _ in range(100): os.write(3, bytes(10**6))", *ALL),
    "a huge answer": wrong("def entropy(w):\n    return torch.zeros(10**7)", "q7"),
    "a huge answer by strides": wrong("def entropy(w):\n    return torch.zeros(1).expand(10**13)", "q7"),
    "ten thousand answers": wrong("def entropy(w):\n    return [w] * 20000", "q7"),
    "deep nesting": wrong("def entropy(w):\n    x = w\n    for _ in range(10000): x = [x]\n    return x", "q7"),
    # --- leaving early ------------------------------------------------------------------------------------------
    "os._exit in a cell": wrong("import os\nos._exit(0)", *ALL),
    "os._exit in a function": wrong("def entropy(w):\n    import os\n    os._exit(0)", "q7"),
    "sys.exit in a cell": wrong("import sys\nsys.exit(0)"),
    "kills itself": wrong("def entropy(w):\n    import os\n    os.kill(os.getpid(), 9)", "q7"),
    "kills everybody": wrong("def entropy(w):\n    import os\n    os.kill(-1, 9)", "q7"),
    "segmentation fault": wrong("def entropy(w):\n    import ctypes\n    ctypes.string_at(0)", "q7"),
    "ignores the alarm": wrong(
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ndef entropy(w):\n    while True: pass", "q7"
    ),
    # --- changing the checker -----------------------------------------------------------------------------------
    "patches torch's comparison": wrong(
        "torch.testing.assert_close = lambda *a, **k: None\n"
        "torch.isclose = lambda a, *b, **k: torch.ones_like(a, dtype=torch.bool)\n"
        "torch.allclose = lambda *a, **k: True\n" + WRONG,
        "q3",
    ),
    "patches our comparison": wrong(
        WRONG + "import fmcourse.exercises.compare as c\nc.difference = lambda *a, **k: None", "q3"
    ),
    "patches the wire": wrong("import fmcourse.grading.wire as w\nw.pack = lambda v: b'{}'\n" + WRONG, "q3"),
    "patches safetensors": wrong("import safetensors.torch as s\ns.save = lambda *a, **k: b''\n" + WRONG, "q3"),
    "patches json": wrong("import json\njson.dumps = lambda *a, **k: '{}'\n" + WRONG, *ALL),  # its own pipe needs it
    "optimised asserts away": wrong("import builtins\nbuiltins.AssertionError = Exception\n" + WRONG, "q3"),
    "patches the check": wrong(
        WRONG + "import fmcourse.exercises.session as s\ns.difference = lambda *a, **k: None", "q3"
    ),
    "raises its own points": wrong(
        WRONG + "from fmcourse.exercises.attention import EXERCISE\n"
        "for q in EXERCISE.questions: object.__setattr__(q, 'points', 999)",
        "q3",
    ),
    "replaces the reference": wrong(
        WRONG + "from fmcourse.exercises.attention import EXERCISE\n"
        "object.__setattr__(EXERCISE.questions[2], 'reference', softmax)",
        "q3",
    ),
    "makes the hidden inputs zero": wrong(
        "def scores(query, key):\n    return torch.zeros(*query.shape[:-1], key.shape[-2])\n"
        "import fmcourse.exercises.spec as s\ns.Draw.normal = lambda self, *shape: torch.zeros(*shape)",
        "q2",
    ),
    "asks the frame of its caller": wrong(
        "import sys\ndef softmax(x):\n    seen = sys._getframe(1).f_locals\n"
        "    return seen['question'].expected(seen['case'])",
        "q3",
    ),
    "searches the memory for the reference": wrong(
        "import gc\ndef softmax(x):\n    for q in gc.get_objects():\n"
        "        if type(q).__name__ == 'Question' and q.id == 'q3': return q.reference(x)",
        "q3",
    ),
    "writes the results itself": wrong(
        "import json, os\nwith open('/results/results.json', 'w') as f:\n"
        "    json.dump({f'q{i}': {'points': 100, 'says': ''} for i in range(1, 9)}, f)\nos._exit(0)"
    ),
    "writes the results at the end": wrong(
        WRONG + "import atexit, json\ndef forge():\n    with open('/results/results.json', 'w') as f:\n"
        "        json.dump({f'q{i}': {'points': 100, 'says': ''} for i in range(1, 9)}, f)\natexit.register(forge)",
        "q3",
    ),
    "marks itself as passed": wrong("check.passed = {f'q{i}': True for i in range(1, 9)}\n" + WRONG, "q3"),
    "forges a frame with points": wrong(
        WRONG + "from fmcourse.grading.wire import pack\nimport os\n"
        "data = pack({'question': 'q3', 'answers': [1], 'points': 99, 'passed': True})\n"
        "os.write(3, len(data).to_bytes(8, 'little') + data)",
        "q3",
        self_harm=True,
    ),
    "forges frames of odd forms": wrong(
        "from fmcourse.grading.wire import pack\nimport os\n"
        "for odd in ({'question': [1]}, {'question': None, 'begin': 1}, {}, {'question': 'q3', 'trouble': [1]},\n"
        "            {'question': 'q3', 'answers': 5}):\n"
        "    data = pack(odd)\n    os.write(3, len(data).to_bytes(8, 'little') + data)",
        "q3",
        self_harm=True,
    ),
    "sends a pickle": wrong("import os, pickle\nos.write(3, pickle.dumps(print))", *ALL),
    "sends a frame that lies about its size": wrong(
        "import os\nos.write(3, (2**62).to_bytes(8, 'little') + b'{}')", *ALL
    ),
    # --- tricky answers -----------------------------------------------------------------------------------------
    "equal to everything": wrong(
        "class Yes:\n    def __eq__(self, other): return True\ndef entropy(w):\n    return Yes()", "q7"
    ),
    "a tensor that is equal to everything": wrong(
        "class Yes(torch.Tensor):\n    def __eq__(self, other): return True\n"
        "    @classmethod\n    def __torch_function__(cls, f, t, a=(), k=None): return torch.zeros(1)\n"
        "def softmax(x):\n    return x.as_subclass(Yes)",
        "q3",
    ),
    "not a number": wrong("def softmax(x):\n    return x * float('nan')", "q3"),
    "infinite": wrong("def softmax(x):\n    return x * 0 + float('inf')", "q3"),
    "an answer that broadcasts": wrong("def scores(query, key):\n    return torch.zeros(())", "q2"),
    "a sparse tensor": wrong("def entropy(w):\n    return torch.zeros(3).to_sparse()", "q7"),
    "a meta tensor": wrong("def entropy(w):\n    return torch.zeros(3, device='meta')", "q7"),
    "an answer that would run code when unpickled": wrong(
        "class Bomb:\n    def __reduce__(self): return (print, ('boom',))\ndef entropy(w):\n    return Bomb()", "q7"
    ),
    "a string": wrong("def entropy(w):\n    return 'right'", "q7"),
    "a measured nan": wrong("sharpness = float('nan')", "q8"),
    "a measured True": wrong("sharpness = True", "q8"),
    # --- notebook tricks ----------------------------------------------------------------------------------------
    "an input transformer": wrong(
        WRONG + "get_ipython().input_transformers_post.append(lambda lines: ['points = 99'])", "q3"
    ),
    "magics and shell": wrong("%timeit 1\n!rm -rf /\n%%bash\necho hello"),
    "shadows a module": wrong("import sys, types\nsys.modules['torch'] = types.ModuleType('torch')", self_harm=True),
    "shadows names": wrong("tuple = list = len = print = None"),
    "a syntax error": wrong("def ("),
    # --- looking around -----------------------------------------------------------------------------------------
    "network": wrong(
        "import socket\nreached = False\nfor place in (('1.1.1.1', 80), ('127.0.0.1', 18321)):\n"
        "    try:\n        socket.create_connection(place, 2); reached = True\n    except OSError: pass\n"
        "def entropy(w):\n    assert reached",
        "q7",
    ),
    "reads the host's files": wrong(
        "import glob, os\nfound = [p for p in ('/etc/passwd', '/etc/shadow', '/home', '/var')"
        " if os.path.exists(p)]\ndef entropy(w):\n    assert found",
        "q7",
    ),
    "reads the environment": wrong(
        "import os\nseen = [k for k in os.environ if 'SECRET' in k]\ndef entropy(w):\n    assert seen", "q7"
    ),
    "sees other processes": wrong(
        "import os\nothers = [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 4 and p != str(os.getpid())]\n"
        "def entropy(w):\n    assert others",
        "q7",
    ),
    "writes where it should not": wrong(
        "import os\ndone = []\nfor p in ('/in/x', '/usr/x', '/x', '/in/fmcourse/x', '/proc/1/mem', '/results/x'):\n"
        "    try:\n        open(p, 'w'); done.append(p)\n    except OSError: pass\ndef entropy(w):\n    assert done",
        "q7",
    ),
    "becomes root": wrong(
        "import os\ntry:\n    os.setuid(0); done = True\nexcept OSError: done = os.geteuid() == 0\n"
        "def entropy(w):\n    assert done",
        "q7",
    ),
    "imports the reference": wrong(
        WRONG + "m = __import__('fmcourse.exercises.' + 'attention', fromlist=['x'])\n"
        "def helper(x):\n    return m.EXERCISE.questions[2].reference(x)\ndef softmax(x):\n    return helper(x)",
        "q3",
    ),
    "copies another student's answers": wrong(
        WRONG + "import glob, json\nfor path in glob.glob('/submissions/*.ipynb'):\n"
        "    for cell in json.load(open(path))['cells']: exec(cell['source'])",
        "q3",
    ),
    "looks for the reference on the disk": wrong(
        "import os, sys\nhere = [os.path.join(f, n) for p in sys.path + ['/in'] for f, _, names in os.walk(p)\n"
        "        for n in names if n == 'attention.py' and 'fmcourse' in f]\ndef entropy(w):\n    assert here",
        "q7",
    ),
    "asks for its own answer": wrong("def softmax(x):\n    return given.softmax(x)", "q3"),
    "asks for its own answer by stealth": wrong("def softmax(x):\n    return vars(given)['soft' + 'max'](x)", "q3"),
    "keeps its own answer for later": wrong(
        "kept = getattr(check.given, 'soft' + 'max')\ndef helper(x):\n    return kept(x)\n"
        "def softmax(x):\n    return helper(x)",
        "q3",
    ),
    "asks the judge for too much": wrong(
        "big = [torch.zeros(*[3000 if i == j else 1 for i in range(3)], 1, 1) for j in range(3)]\n"
        "given.attention(*big, torch.ones(1, 1, dtype=torch.bool))"
    ),
    "asks the judge for nonsense": wrong(
        "for bad in ('scores', 1, None, [[]] * 50, torch.zeros(2, device='meta')):\n"
        "    try:\n        given.scores(bad, k=bad)\n    except Exception: pass"
    ),
    "asks the judge without end": wrong("x = torch.zeros(1)\nwhile True: given.softmax(x)", self_harm=True),
    "torch's own, by another name": wrong("def softmax(x):\n    return getattr(torch, 'softmax')(x, -1)", "q3"),
    "torch's own, through a helper": wrong(
        "from torch import softmax as s\ndef helper(x):\n    return s(x, -1)\ndef softmax(x):\n    return helper(x)",
        "q3",
    ),
    "the fused function": wrong(
        "def attention(q, k, v, m):\n    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=m)",
        "q5",
    ),
    "a time bomb": wrong(
        # Right while it is looked at: when the cells have run, a thread changes torch and the answers.
        "import threading, time\ndef entropy(w):\n    return w.sum(-1)\ndef explode():\n    time.sleep(0.2)\n"
        "    torch.isclose = lambda a, *b, **k: torch.ones_like(a, dtype=torch.bool)\n"
        "threading.Thread(target=explode, daemon=True).start()\ntime.sleep(0.5)",
        "q7",
    ),
    "right only for the public cases": wrong(
        "known = [2]\ndef entropy(w):\n    return -(w * w.log()).sum(-1) if w.numel() == 2 else w.sum(-1)", "q7"
    ),
}
