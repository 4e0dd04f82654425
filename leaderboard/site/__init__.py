"""The site on disk: rendered, checked, served; its data files and downloads."""
