"""The processes of one machine: started, watched, heard and stopped in good order."""
