"""The front doors: foreign words in and out. Each dialect is a folder with the same rooms."""
