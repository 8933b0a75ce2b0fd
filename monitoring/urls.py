"""The dashboard's addresses."""

from django.urls import path

from monitoring.dashboard import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live", views.live, name="live"),
    path("healthz", views.healthz, name="healthz"),
]
