"""From points to the best parameters: EM, restarts, searches, the choice of K."""
