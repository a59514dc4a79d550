"""What each contender does when it is its turn: one file each, run as a process in that contender's environment."""
