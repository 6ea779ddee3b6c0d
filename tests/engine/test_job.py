from bertjax.engine.job import COMPILER_OPTIONS, compiler_options


def test_compiler_options_leave_the_users_flags_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    assert compiler_options("gpu") == COMPILER_OPTIONS["gpu"] == {"xla_gpu_enable_triton_gemm": False}
    assert compiler_options("cpu") == compiler_options("tpu") == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=true")
    assert compiler_options("gpu") == {}
