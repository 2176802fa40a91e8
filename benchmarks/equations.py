"""Print rows of the index of equations, algorithms/EQUATIONS.md.

    python -m benchmarks.equations [WORD ...]

prints the rows that contain all the words (all rows without any), each with the lines of its
functions and tests today.
"""

import sys

from algorithms.runner.equations import line_of, read


def written(row):
    """A row as text, with lines."""
    equation = "\n".join(f"    {line}" for line in row.equation)
    places = []
    for file, name in (*row.code, *row.tests):
        path, line = line_of(file, name, row.line)
        places.append(f"{path}:{line}: {name}")
    return "\n".join([f"{row.section}: {row.source}", "", equation, "", *places, ""])


def main():
    words = [word.lower() for word in sys.argv[1:]]
    for row in read():
        text = written(row)
        if all(word in text.lower() for word in words):
            print(text)


if __name__ == "__main__":
    main()
