"""Between the local store and Drive: what goes up, what comes down, and what Drive's tree looks like."""
