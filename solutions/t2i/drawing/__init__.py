"""Pictures and tables of each lesson's own; what all lessons draw with is `t2i.show`."""
