import sys
from pathlib import Path

from envs import opengl

# Worker processes take over this path, and find tests/envs/troublesome.py on it.
sys.path.insert(0, str(Path(__file__).parent))

# Some tests import dm_control themselves, which must come after the choice.
opengl.choose_backend()
