import sys
from pathlib import Path

# Where the tests find everyone.py.
sys.path.insert(0, str(Path(__file__).parent))
