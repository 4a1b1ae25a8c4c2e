"""From files that people have obtained, or own, to data sets in TRL's columns, with a card that counts every row."""
