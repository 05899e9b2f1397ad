"""What Ctrl-C interrupts besides the run itself."""

import pytest
from tiny import tiny_trainer

import envs
from agents.stopping import Stopped


@pytest.mark.parametrize("asked", [True, False])
def test_a_compiler_that_ctrl_c_interrupts_is_no_fault(tmp_path, asked):
    class InductorError(RuntimeError):
        pass

    InductorError.__module__ = "torch._inductor.exc"
    trainer = tiny_trainer(envs.make("CartPole-v1"), tmp_path, steps=60)

    def compile_until_interrupted(*_):
        trainer._stop.asked = asked
        raise InductorError("C++ compile error")

    trainer.learner.learn_from = compile_until_interrupted
    with pytest.raises(Stopped if asked else InductorError):
        trainer.run()
    assert any((tmp_path / "checkpoints").glob("*")) == asked
    if asked:
        again = tiny_trainer(envs.make("CartPole-v1"), tmp_path, steps=60)
        again.run()
        assert again.env_steps == 60 and again.learner.updates > 0
