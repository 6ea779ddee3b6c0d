"""CPU with eight virtual devices, strict shapes, no network."""

import inspect
import os
import socket
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Equal programs are compiled once a session: most of the time of the tests is the compiler's."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers
    jax.config.update("jax_compilation_cache_dir", str(shared / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections to anywhere but this machine fail: tests need no network."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """A text file of real prose, a document a module: what the standard library says of itself."""
    path = tmp_path_factory.mktemp("corpus") / "docs.txt"
    names = [n for n in sorted(sys.stdlib_module_names) if n in sys.modules and sys.modules[n].__doc__]
    documents = []
    for name in names:
        module = sys.modules[name]
        parts = [module.__doc__] + [inspect.getdoc(v) or "" for v in vars(module).values() if inspect.isroutine(v)]
        documents.append(" ".join(" ".join(parts).split()))
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path
