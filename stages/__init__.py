"""Few labels, many unlabelled images: the stages of the pipeline and the library they call."""
