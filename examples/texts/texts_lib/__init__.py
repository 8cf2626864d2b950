"""Plain Python that the experiment uses: the texts, the models, the scores."""
