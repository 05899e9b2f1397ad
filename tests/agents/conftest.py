import sys
from pathlib import Path

# Where the tests below find tests/agents/tiny.py, and small.py and everyone.py of tests/worldmodel.
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "worldmodel"), str(HERE.parent / "worldmodel" / "objectives")]
