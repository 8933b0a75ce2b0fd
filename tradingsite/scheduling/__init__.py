"""What runs when: the schedule tables, beat on market time, job runs and their leases."""
