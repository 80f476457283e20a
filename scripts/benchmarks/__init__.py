"""What mmfs costs, next to what it is compared with: `scripts/bench` prints a row for each question.

Both sides of a row are measured in the same run, in interleaved rounds; a figure is the median of the rounds, its
spread the distance of the quartiles. A row's bound is what the project promises; a row that misses it says so.
"""
