"""How much a foreign file may ask for; each limit is checked before what it limits is read."""

MAX_BYTES = 2 * 10**9  # of all arrays together, unpacked
MAX_CLASSES = 10_000
MAX_FILES = 300_000  # in a zip
MAX_FILE_BYTES = 50 * 10**6  # of one file in a zip, unpacked
MAX_PIXELS = 4096 * 4096  # of one picture
MAX_COLUMNS = 100_000  # of a table
MAX_HEADER = 10**7  # characters of a table's header line
MAX_FOOTER = 5 * 10**7  # bytes of a Parquet file's list of its columns and their parts
MAX_NAME = 80  # characters of a class name
