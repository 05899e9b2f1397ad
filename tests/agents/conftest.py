import sys
from pathlib import Path

# Where the tests below find tests/agents/tiny.py.
sys.path.insert(0, str(Path(__file__).parent))
